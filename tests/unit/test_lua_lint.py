"""The Lua linter finds each kind of fault, and none in the ledger's scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import lua_lint

SOUND = "local tool = require('tool')\nreturn tool.add(KEYS[1], 2)\n"
TOOL = "local function add(a, b) return a + b end\nreturn {add = add}\n"


def faults(folder: Path, script: str, tool: str = TOOL) -> list[str]:
    (folder / "includes").mkdir()
    (folder / "step.lua").write_text(script)
    (folder / "includes" / "tool.lua").write_text(tool)
    return [str(fault) for fault in lua_lint.lint(folder)]


def test_the_scripts_of_the_ledger_have_no_fault() -> None:
    assert lua_lint.lint(lua_lint.FOLDER) == []


def test_a_sound_script_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("local x = = 1\n", "step.lua:3: the syntax is wrong"),
        ("return units\n", "step.lua:3: `units` is not defined"),
        ("do local units = 1 redis.log(units) end\nreturn units\n", "step.lua:4: `units` is not defined"),
        ("redis.f({[units] = 1})\n", "step.lua:3: `units` is not defined"),
        ("return os.clock()\n", "step.lua:3: `os` is not defined"),  # not on Redis 7.0
        ("units = 1\n", "step.lua:3: `units` is a global that is assigned to"),
        ("function units() end\n", "step.lua:3: `units` is a global that is assigned to"),
        ("local units = 1\n", "step.lua:3: `units` is never read"),
        ("local units\nunits = 1\n", "step.lua:3: `units` is never read"),
        ("local function units() end\n", "step.lua:3: `units` is never read"),
        ("redis.f(function(units) end)\n", "step.lua:3: `units` is never read"),
        ("for place, units in ipairs(KEYS) do redis.log(place) end\n", "step.lua:3: `units` is never read"),
        ("for _, tool in ipairs(KEYS) do redis.log(tool) end\n", "step.lua:3: `tool` hides another local of that name"),
        ("redis.f(function(tool) return tool end)\n", "step.lua:3: `tool` hides another local of that name"),
        ("tool.remove()\n", "step.lua:3: the module `tool` has no `remove`"),
        ("require('tool').remove()\n", "step.lua:3: the module `tool` has no `remove`"),
        ("require('saw').cut()\n", "step.lua:3: the module `saw` has no `cut`"),
        (f"redis.log('{'x' * 120}')\n", "step.lua:3: the line has more than 120 characters"),
    ],
)
def test_a_fault_in_a_script_is_found_with_its_line(tmp_path: Path, script: str, fault: str) -> None:
    assert fault in faults(tmp_path, "local tool = require('tool')\ntool.add()\n" + script)


def test_a_function_of_a_module_that_no_file_uses_is_found(tmp_path: Path) -> None:
    tool = "local tool = {}\nfunction tool.add() end\nfunction tool.remove() end\nreturn tool\n"
    assert faults(tmp_path, SOUND, tool) == ["includes/tool.lua:3: no other file uses `remove`"]


@pytest.mark.parametrize("count", [lua_lint.LOCALS_MAX, lua_lint.LOCALS_MAX + 1])
def test_a_function_with_too_many_locals_is_found(tmp_path: Path, count: int) -> None:
    names = [f"name_{number}" for number in range(count)]
    declared = "".join(f"local {name} = 1\n" for name in names[:-1])
    read = "".join(f"redis.log({name})\n" for name in names)
    script = f"local function f({names[-1]})\n{declared}{read}end\nf(1)\n"
    found = faults(tmp_path, SOUND.replace("return ", script + "return "))
    assert [fault.split(": ")[1] for fault in found] == [f"the function has more than {lua_lint.LOCALS_MAX} locals"] * (
        count > lua_lint.LOCALS_MAX
    )
