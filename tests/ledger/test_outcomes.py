"""The outcomes have the same names and values in Lua and in Python."""

from __future__ import annotations

import re
from importlib.resources import files

from stocktide.tables.ledger.outcomes import REFUSALS, REFUSALS_OF_LINES, Outcome

_LINE = re.compile(r"^\s*([A-Z_]+)\s*=\s*'([a-z_]+)',?\s*(?:--.*)?$", re.MULTILINE)


def _of_lua() -> list[tuple[str, str]]:
    text = (files("stocktide.tables.ledger") / "lua" / "includes" / "outcomes.lua").read_text(encoding="utf-8")
    return _LINE.findall(text)


def test_lua_and_python_know_the_same_outcomes_by_the_same_names() -> None:
    assert sorted(_of_lua()) == sorted((outcome.name, outcome.value) for outcome in Outcome), "each of them once"


def test_a_refusal_of_a_line_is_a_refusal() -> None:
    assert REFUSALS_OF_LINES < REFUSALS < set(Outcome)
