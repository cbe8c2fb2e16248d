"""The ledger of the model: two SKUs, a few orders, and the changed rows in each decision.

In: rows (whole states by key) and commands. Out: results, and the rows that changed. Ids make repeats answer as before,
a refusal stands, and cancelling returns units: exactly what callers rely on.
"""

from __future__ import annotations

from typing import NamedTuple

RowValue = tuple[str | int, ...]
Rows = dict[str, RowValue]

SKUS = ("sku:a", "sku:b")
# Orders that callers draw from: few, so that they collide.
ORDERS = 10
# Receipts of one SKU, and what each brings: less than the orders ask for.
RECEIPTS = 2
UNITS_RECEIVED = 3
# Keys that one page of a pass reads.
PAGE_KEYS = 5

RESTATE = "restate"


class ModelCommand(NamedTuple):
    """`place`, `pay`, `cancel` an order, `receive` a movement, or `restate` a page of rows."""

    kind: str
    key: str


class ModelResult(NamedTuple):
    """The outcome of a command."""

    outcome: str
    replayed: bool = False


class ModelDecision(NamedTuple):
    """A batch: the payload of a record of the journal. Its `commands` are for the checker."""

    batch: int
    commands: tuple[ModelCommand, ...]
    results: tuple[ModelResult, ...]
    changed: Rows


def ordered(order: str) -> tuple[str, int]:
    """The SKU and the units of an order, which follow from its id."""
    number = int(order.rpartition(":")[2])
    return SKUS[number % 2], 1 + number % 3 % 2


def decide(rows: Rows, commands: tuple[ModelCommand, ...]) -> tuple[tuple[ModelResult, ...], Rows]:
    """Results in order, and the rows that changed, whole."""
    changed: Rows = {}
    return tuple(_STEPS[command.kind](rows, changed, command.key) for command in commands), changed


def restate(rows: Rows, cursor: str) -> tuple[Rows, str]:
    """A page of rows and the next cursor ('' at the end). Rows that have only one state are left out."""
    names = sorted(name for name in rows if name > cursor)[: PAGE_KEYS + 1]
    page = names[:PAGE_KEYS]
    written = {
        name: rows[name] for name in page if not name.startswith("movement:") and rows[name] != ("insufficient_stock",)
    }
    return written, page[-1] if len(names) > PAGE_KEYS else ""


def oversold(rows: Rows) -> str | None:
    """A SKU with more units promised than on hand, if there is one."""
    for sku in SKUS:
        on_hand, locked, committed = _stock(rows, {}, sku)
        if locked + committed > on_hand or locked < 0 or committed < 0:
            return sku
    return None


def _stock(rows: Rows, changed: Rows, sku: str) -> tuple[int, int, int]:
    return changed.get(sku) or rows.get(sku) or (0, 0, 0)


def _order(rows: Rows, changed: Rows, order: str) -> str | None:
    found = changed.get(order) or rows.get(order)
    return None if found is None else str(found[0])


def _place(rows: Rows, changed: Rows, order: str) -> ModelResult:
    state = _order(rows, changed, order)
    if state is not None:
        return ModelResult(state if state == "insufficient_stock" else "reserved", True)
    sku, units = ordered(order)
    on_hand, locked, committed = _stock(rows, changed, sku)
    if on_hand - locked - committed < units:
        changed[order] = ("insufficient_stock",)
        return ModelResult("insufficient_stock")
    changed[sku] = (on_hand, locked + units, committed)
    changed[order] = ("reserved",)
    return ModelResult("reserved")


def _pay(rows: Rows, changed: Rows, order: str) -> ModelResult:
    state = _order(rows, changed, order)
    if state == "reserved":
        _move(rows, changed, order, -1, 1)
        changed[order] = ("paid",)
        return ModelResult("paid")
    return _unchanged(state, "paid")


def _cancel(rows: Rows, changed: Rows, order: str) -> ModelResult:
    state = _order(rows, changed, order)
    if state in ("reserved", "paid"):
        _move(rows, changed, order, -(state == "reserved"), -(state == "paid"))
        changed[order] = ("cancelled",)
        return ModelResult("cancelled")
    return _unchanged(state, "cancelled")


def _unchanged(state: str | None, requested: str) -> ModelResult:
    if state is None or state == "insufficient_stock":
        return ModelResult("unknown_order")
    return ModelResult(requested, True) if state == requested else ModelResult("already_final")


def _move(rows: Rows, changed: Rows, order: str, locks: int, commits: int) -> None:
    sku, units = ordered(order)
    on_hand, locked, committed = _stock(rows, changed, sku)
    changed[sku] = (on_hand, locked + locks * units, committed + commits * units)


def _receive(rows: Rows, changed: Rows, movement: str) -> ModelResult:
    if movement in rows or movement in changed:
        return ModelResult("received", True)
    sku = SKUS[int(movement.rpartition(":")[2]) % 2]
    on_hand, locked, committed = _stock(rows, changed, sku)
    changed[sku] = (on_hand + UNITS_RECEIVED, locked, committed)
    changed[movement] = ("received",)
    return ModelResult("received")


_STEPS = {"place": _place, "pay": _pay, "cancel": _cancel, "receive": _receive}
