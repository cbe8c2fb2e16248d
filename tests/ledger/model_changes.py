"""The model's changes of placed orders: cancellation of single units (rule 51)."""

from __future__ import annotations

from collections import Counter

from stocktide.tables.ledger.commands import Cancel
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_policy import evaluate
from tests.ledger.model_state import ModelLine, ModelOrder, ModelState


def cancel_in_part(state: ModelState, order: ModelOrder, command: Cancel) -> tuple[Outcome, bool]:
    """Rule 51: units of single lines go back, from those that are not shipped."""
    if order.state in {"expired", "rejected"}:
        return Outcome.ALREADY_FINAL, False
    refusal = removal_refusal(order, command.lines)
    if refusal is not None:
        return refusal, False
    for name, units in command.lines:
        give_back(state, order, line_of(order, name), units)
    finish_change(order)
    return Outcome.CANCELLED, False


def removal_refusal(order: ModelOrder, lines: tuple[tuple[str, int], ...]) -> Outcome | None:
    removed: Counter[str] = Counter()
    for name, units in lines:
        removed[name] += units
        line = next((each for each in order.lines if each.sku == name), None)
        if line is None:
            return Outcome.NOT_IN_ORDER
        if removed[name] > line.outstanding:
            return Outcome.MORE_THAN_OPEN
    return None


def line_of(order: ModelOrder, name: str) -> ModelLine:
    return next(line for line in order.lines if line.sku == name)


def give_back(state: ModelState, order: ModelOrder, line: ModelLine, units: int) -> None:
    """Cancel units of a line: preordered ones first, then those of the smallest hold."""
    sku, counter = state.skus[line.sku], "locked" if order.state == "reserved" else "committed"
    line.cancelled += units
    preordered = min(units, line.preordered)
    sku.add(f"preordered@{order.channel}", -preordered)
    line.preordered -= preordered
    units -= preordered
    for name in sorted(line.warehouses, key=lambda name: (line.warehouses[name], sku.warehouses.index(name))):
        taken = min(units, line.warehouses[name])
        sku.add(f"{counter}@{name}", -taken)
        line.warehouses[name] -= taken
        units -= taken
    line.warehouses = {name: held for name, held in line.warehouses.items() if held}
    line.state = open_state(order, line) or "cancelled"
    evaluate(state, sku)


def open_state(order: ModelOrder, line: ModelLine) -> str | None:
    """The state of a line with units that are still to be shipped."""
    if line.preordered:
        return "preordered"
    if line.warehouses:
        return "reserved" if order.state == "reserved" else "committed"
    return None


def finish_change(order: ModelOrder) -> None:
    """Count the change; an order of which nothing is left to be shipped ends."""
    if not any(line.outstanding for line in order.lines):
        order.state = "shipped" if any(line.shipped for line in order.lines) else "cancelled"
        order.expires_at = None
    order.sequence += 1
