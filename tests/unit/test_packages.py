"""What the tests need and a machine may lack."""

from __future__ import annotations

import re
from pathlib import Path

from tests.check import NEEDED
from tests.packages import Package, warnings_about

TESTS = Path(__file__).parents[1]
MAKEFILE = TESTS.parent / "Makefile"


def test_each_program_without_which_tests_are_skipped_is_named_and_installed() -> None:
    texts = "".join(file.read_text() for file in TESTS.rglob("*.py"))
    skipped_without = set(re.findall(r'skip\(f?"([\w-]+) is not installed', texts))
    assert len(skipped_without) > 3
    names = [package.name.split()[0] for package in NEEDED]
    assert [each for each in skipped_without if not each.lower().startswith(tuple(names))] == []
    (installed,) = re.findall(r"^packages:.*\n.*\n(.+)$", MAKEFILE.read_text(), re.MULTILINE)
    for package in NEEDED:
        by_debian = package.installed_by == "make packages"
        assert not by_debian or package.name.split()[0].rstrip(",") in re.findall(r"[\w-]+", installed), package.name


def test_a_warning_says_what_is_lost() -> None:
    absent = Package("ghost", lambda: False, "nothing is tested", "make ghost")
    assert warnings_about(absent) == ["ghost is not installed: nothing is tested (`make ghost` installs it)"]
