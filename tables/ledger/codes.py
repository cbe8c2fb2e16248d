"""The codes and positions of packed records, defined once for Python and Lua.

Out: lists of words, the text of the Lua modules `codes` and `words`, and the constants that `tables/ledger/scripts.py`
puts in place of their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from stocktide.tables.ledger.outcomes import Outcome

# Codes are positions in these lists, from 1: a new word goes to the end, and none is ever removed.
STATES = (
    "reserved",
    "preordered",
    "rejected",
    "committed",
    "shipped",
    "cancelled",
    "expired",
    "returned",
    "paid",
    "parked",
    "awaiting_approval",
)
OUTCOMES = tuple(each.value for each in Outcome)
CAUSES = (
    "place",
    "pay",
    "cancel",
    "expire",
    "ship",
    "take_back",
    "receive",
    "adjust",
    "count",
    "transfer",
    "set_policy",
    "sweep",
    "dwell",
    "repair",
    "fill",
    "void",
    "change",
    "expect",
    "reserve",
    "release",
    "pool_due",
    "reroute",
    "assign",
    "promise",
)
# From 0, because an offer is 4 * units + mode.
MODES = ("in_stock", "preorder", "sold_out", "suspended")
# The numbers of a SKU, and of each warehouse after them, in their order.
SKU_NUMBERS = ("version", "at", "low", "high", "as_of")
WAREHOUSE_NUMBERS = ("on_hand", "committed", "locked", "damaged")
# The record of a SKU in more warehouses has sums over them, and only its changed numbers are written.
MANY_WAREHOUSES = 16
# `ARRAY_3` is the header of an array of three values, `STRING_16` that of a string of 16 bytes.
MSGPACK_BYTES = {
    **{f"ARRAY_{size}": 0x90 + size for size in range(16)},
    **{f"STRING_{size}": 0xA0 + size for size in range(32)},
    "MAP_0": 0x80,
    "MAP_1": 0x81,
    "ZERO": 0,
    "ONE": 1,
    "TWO": 2,
    "NIL": 0xC0,
    "FALSE": 0xC2,
    "TRUE": 0xC3,
}


def state_of(code: int | str) -> str:
    """The state of an order or a line; a word without a code stays itself."""
    return STATES[code - 1] if isinstance(code, int) else code


def outcome_of(code: int | str) -> str:
    """The outcome with that code; a word without a code stays itself."""
    return OUTCOMES[code - 1] if isinstance(code, int) else code


def lua_constants() -> dict[str, dict[str, str]]:
    """What stands for the names in Lua's sources: the outcomes (`O.RESERVED`), the positions (`SKU.version`,
    `WAREHOUSE.on_hand`) in a SKU's numbers, from 1, and in those of a warehouse, from 0, and bytes of msgpack."""
    sku = {name: str(place) for place, name in enumerate(SKU_NUMBERS, 1)}
    warehouse = {name: str(place) for place, name in enumerate(WAREHOUSE_NUMBERS)}
    sizes = {"first": str(len(sku) + 1), "size": str(len(warehouse)), "many": str(MANY_WAREHOUSES)}
    msgpack = {name: f"'\\{byte}'" for name, byte in MSGPACK_BYTES.items()}
    outcomes = {each.name: f"'{each}'" for each in Outcome}
    return {"O": outcomes, "SKU": sku, "WAREHOUSE": warehouse | sizes, "MSGPACK": msgpack}


def lua_codes() -> str:
    """The Lua module `codes`: the code of each word."""
    lists = {"state": STATES, "outcome": OUTCOMES, "cause": CAUSES}
    tables = [*(_codes(name, words, 1) for name, words in lists.items()), _codes("mode", MODES, 0)]
    return "return {\n  " + ",\n  ".join(tables) + "\n}\n"


def lua_words() -> str:
    """The Lua module `words`: the word of each code."""
    lists = {"state": STATES, "outcome": OUTCOMES}
    tables = [f"{name} = {{{', '.join(repr(str(word)) for word in words)}}}" for name, words in lists.items()]
    return "return {\n  " + ",\n  ".join(tables) + "\n}\n"


def _codes(name: str, words: Sequence[str], first: int) -> str:
    return f"{name} = {{{', '.join(f'{word} = {code}' for code, word in enumerate(words, first))}}}"
