"""The table of the types of alerts has those that the ledger's Lua raises."""

from __future__ import annotations

import re
from pathlib import Path

from stocktide.streams.contract.alert_types import LEDGER_TYPES

LUA = Path(__file__).parents[2] / "tables" / "ledger" / "lua" / "includes"
RAISED = re.compile(r"alerts\.add\('(\w+)'|alert_about\(each, '(\w+)'\)|'(\w+_negative)'")


def test_every_type_that_the_ledger_raises_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in LUA.glob("*.lua"))
    assert {"".join(found) for found in RAISED.findall(sources)} == set(LEDGER_TYPES)
