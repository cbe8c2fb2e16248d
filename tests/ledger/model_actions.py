"""The model of what operators do to orders that wait: hold_back and assign."""

from __future__ import annotations

from stocktide.tables.ledger.commands import Assign, HoldBack
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_policy import available, effective_policy
from tests.ledger.model_queue import draw_up_to, evaluate, fill, hold_filled, next_line
from tests.ledger.model_state import ModelLine, ModelOrder, ModelState


def hold_back(state: ModelState, order: ModelOrder, command: HoldBack) -> tuple[Outcome, bool]:
    """The waiting lines of an order leave the queue, or come back to their place in it."""
    if order.state not in {"reserved", "paid"}:
        return Outcome.ALREADY_FINAL, False
    if command.sku is not None and all(line.sku != command.sku for line in order.lines):
        return Outcome.NOT_IN_ORDER, False
    changed = []
    for line in order.lines:
        is_held = line.sku in order.held_back
        is_meant = line.sku == command.sku if command.sku else not command.held or line.waiting > 0
        if is_meant and is_held != command.held:
            changed.append(line.sku)
            order.held_back.pop(line.sku, None)
            if command.held:
                order.held_back[line.sku] = True
    for name in [] if command.held else changed:
        if next_line(state, name) is not None:
            fill(state, name)
            evaluate(state, name)
    order.sequence += 1
    return Outcome.CHANGED, False


def assign(state: ModelState, order: ModelOrder, command: Assign) -> tuple[Outcome, bool]:
    """Units that are available go to the order's lines, whatever the threshold and the queue: all or none."""
    if order.state not in {"reserved", "paid"}:
        return Outcome.ALREADY_FINAL, False
    lines = {line.sku: line for line in order.lines}
    wanted: list[tuple[ModelLine, int]] = [(line, line.waiting) for line in order.lines if line.waiting]
    if command.lines:
        wanted = []
        for name, units in command.lines:
            if name not in lines:
                return Outcome.NOT_IN_ORDER, False
            if units > lines[name].waiting:
                return Outcome.MORE_THAN_OPEN, False
            wanted.append((lines[name], units))
    if not wanted:
        return Outcome.MORE_THAN_OPEN, False
    drawn = [_drawn(state, order, line, units) for line, units in wanted]
    if any(each is None for each in drawn):
        return Outcome.INSUFFICIENT_STOCK, False
    for (line, _), units_at in zip(wanted, drawn, strict=True):
        hold_filled(state.skus[line.sku], order, line, units_at or {})
        evaluate(state, line.sku)
    order.sequence += 1
    return Outcome.CHANGED, False


def _drawn(state: ModelState, order: ModelOrder, line: ModelLine, units: int) -> dict[str, int] | None:
    """The units by warehouse; None if there are not enough. Short units are taken off `available` already."""
    sku = state.skus[line.sku]
    policy = effective_policy(state, order.channel, sku)
    short = min(units, line.short)
    free = available(sku, policy)
    if policy.pool_only or short > free + sku.short() or (units > short and units - short > free):
        return None
    drawn = draw_up_to(sku, policy, units)
    return drawn if sum(drawn.values()) == units else None
