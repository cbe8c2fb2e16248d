"""The Lua scripts: how they are assembled from modules, and what their headers say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stocktide.tables.ledger import scripts

LUA = Path(__file__).parents[2] / "tables" / "ledger" / "lua"
SCRIPTS = sorted(LUA.glob("*.lua"))


def assembled(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, **modules: str) -> str:
    """The script `step` of a folder with these modules."""
    (folder / "includes").mkdir()
    (folder / "step.lua").write_text(script)
    for name, text in modules.items():
        (folder / "includes" / f"{name}.lua").write_text(text)
    monkeypatch.setattr(scripts, "_FOLDER", folder)
    return scripts.load_source.__wrapped__("step")


def test_a_script_holds_each_module_that_it_may_require_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = assembled(
        tmp_path,
        monkeypatch,
        "local a = require('a')\nlocal b = require('b')\n",
        a="local b = require('b')\nreturn {}\n",
        b="local function f() return require('c') end\nreturn {f = f}\n",
        c="local a = require('a')\nreturn {}\n",
        unused="return {}\n",
    )
    assert sorted(re.findall(r"^loaders\.(\w+) =", text, re.MULTILINE)) == ["a", "b", "c"]
    assert text.endswith("local a = require('a')\nlocal b = require('b')\n")


def test_a_module_that_is_missing_is_named_with_the_file_that_requires_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(scripts.ModuleError, match=r"^a\.lua requires b, and includes/b\.lua does not exist$"):
        assembled(tmp_path, monkeypatch, "local a = require('a')\n", a="local b = require('b')\nreturn {}\n")


def test_modules_that_depend_on_each_other_are_named_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        scripts.ModuleError, match=r"^modules depend on each other in a circle: (a -> b -> a|b -> a -> b)$"
    ):
        assembled(
            tmp_path,
            monkeypatch,
            "local a = require('a')\n",
            a="local b = require('b')\nreturn {}\n",
            b="local a = require('a')\nreturn {}\n",
        )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_header_of_a_script_lists_its_keys_arguments_outcomes_and_errors(path: Path) -> None:
    header, _, body = path.read_text().partition("\n\n")
    about, _, lists = header.partition("\n--\n")
    assert all(line.startswith("-- ") for line in about.splitlines())
    labels = re.findall(r"^-- (KEYS\[\d+\]|ARGV\[\d+\]|returns|error) ", lists, re.MULTILINE)
    assert re.findall(r"^-- (?! {8} )(?!KEYS|ARGV|returns |error ).*", lists, re.MULTILINE) == []
    arguments = [label for label in labels if label.startswith("ARGV")]
    assert labels == ["KEYS[1]", *arguments, *sorted(labels[1 + len(arguments) :], reverse=True)]
    assert arguments == [f"ARGV[{place}]" for place in range(1, len(arguments) + 1)]
    assert set(re.findall(r"\bARGV\[\d+\]", body)) <= set(arguments)
    assert "returns" in labels
    assert set(re.findall(r"error_reply\('(\w+)", body)) == set(re.findall(r"^-- error    (\w+):", lists, re.MULTILINE))
    words = set(re.findall(r"return \{ '(\w+)'", body))
    assert words <= set(re.findall(r"\{'(\w+)'", lists))
