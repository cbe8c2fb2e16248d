"""The systemd units: valid, hardened, with our settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.deployed import DEPLOY, check_settings

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
# Of 10, where 0 is the best that `systemd-analyze security` knows.
EXPOSURE_MAX = 3.0


def lines_of(unit: Path) -> dict[str, list[str]]:
    """The values of each name, as systemd reads them; an instance is `8080`."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().replace("%i", "8080").splitlines():
        name, is_entry, value = line.partition("=")
        if is_entry and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_its_settings_are_ours_and_it_drains_within_its_time(unit: Path) -> None:
    lines = lines_of(unit)
    example = re.findall(r"^(STOCKTIDE_\w+)=(.*)$", (FOLDER / "stocktide.env.example").read_text(), re.MULTILINE)
    environ = dict(example) | dict(value.split("=", 1) for value in lines["Environment"])
    settings = check_settings(environ)
    assert str(settings.data) == f"/var/lib/{lines['StateDirectory'][0]}"
    assert int(lines["TimeoutStopSec"][0]) > settings.drain_seconds + 10
    assert int(lines["LimitNOFILE"][0]) > settings.connections_max + 1_000
    assert "8080" in (settings.worker_name, str(settings.port))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_it_and_finds_it_hardened(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian's systemd): the units are read by ourselves only")
    text = unit.read_text().replace("/opt/stocktide/bin/stocktide", "/bin/true")
    copied = tmp_path / unit.name.replace("@", "@8080")
    copied.write_text(text)
    (tmp_path / unit.name).write_text(text)
    verified = subprocess.run([analyze, "verify", copied], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [analyze, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", copied]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
