"""The model's changes of placed orders: cancelled units (rule 51), exchange (rule 52), late payment (rule 53)."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

from stocktide.tables.ledger.commands import Cancel, Change, Pay
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_limits import held_room, limits_of, within
from tests.ledger.model_lines import decide_line
from tests.ledger.model_orders import end_dwells, hold, open_state
from tests.ledger.model_pools import pool_warehouse, put_back
from tests.ledger.model_queue import evaluate, go_on
from tests.ledger.model_state import ModelLine, ModelOrder, ModelSku, ModelState


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


def cancel_removed(state: ModelState, order: ModelOrder, command: Cancel) -> tuple[Outcome, bool]:
    """Rule 51 with `removal`: what totals and single removals name goes back once."""
    if order.state in {"expired", "rejected"}:
        return Outcome.ALREADY_FINAL, False
    ahead, back = dict(order.removed_ahead), []
    for name, named in command.lines:
        line = next((each for each in order.lines if each.sku == name), None)
        if line is None:
            return Outcome.NOT_IN_ORDER, False
        if command.removal == "total":
            units = max(0, min(named - line.cancelled, line.outstanding))
            ahead[name] = ahead.get(name, 0) + units
        else:
            covered = min(named, ahead.get(name, 0))
            units = named - covered
            ahead[name] = ahead.get(name, 0) - covered
            if units > line.outstanding:
                return Outcome.MORE_THAN_OPEN, False
        if units:
            back.append((line, units))
    if command.removal == "total" and not back:
        return Outcome.CANCELLED, True
    order.removed_ahead = {name: units for name, units in ahead.items() if units}
    for line, units in back:
        give_back(state, order, line, units)
    if back:
        finish_change(order)
    return Outcome.CANCELLED, False


def take_again(state: ModelState, order: ModelOrder, command: Pay) -> tuple[Outcome, bool]:
    """Rule 53: all lines of an expired order are held again, as paid, if the channel's rules allow it now."""
    end_dwells(state, order)
    wanted = [(line, line.quantity - line.cancelled - line.shipped) for line in order.lines if line.state == "expired"]
    if add(state, order, [(line, units) for line, units in wanted if units > 0], "paid") is not None:
        if command.origin is not None:
            state.alerts.append(("paid_after_expiry", command.order_id))
        return Outcome.ALREADY_FINAL, False
    for line in order.lines:
        if line.state == "expired":
            line.state = "returned" if line.returned == line.shipped else "shipped"
    finish_change(order)
    return Outcome.PAID, False


def change(state: ModelState, order: ModelOrder, command: Change) -> tuple[Outcome, bool]:
    """Rule 52: units go back and others are held by the channel's rules, in one step, or nothing changes."""
    if order.state not in {"reserved", "paid"}:
        return Outcome.ALREADY_FINAL, False
    refusal = removal_refusal(order, command.remove)
    if refusal is not None:
        return refusal, False
    end_dwells(state, ModelOrder("", lines=[ModelLine(name, units, "") for name, units in command.add]))
    before = deepcopy((state.skus, order.lines))
    for name, units in command.remove:
        give_back(state, order, line_of(order, name), units, fills=False)
    lines = {line.sku: line for line in order.lines}
    wanted = [(lines.get(name) or ModelLine(name, 0, "rejected"), units) for name, units in command.add]
    refusal = add(state, order, wanted, order.state)
    if refusal is not None:
        state.skus, order.lines = before
        return refusal, False
    for line, units in wanted:
        if line.sku not in lines:
            order.lines.append(line)
        line.quantity = (0 if line.reason else line.quantity) + units
        line.reason = None
    for name, _ in command.remove:
        go_on(state, name)
    finish_change(order)
    return Outcome.CHANGED, False


def add(state: ModelState, order: ModelOrder, wanted: list[tuple[ModelLine, int]], order_state: str) -> Outcome | None:
    """Hold units of lines by the rules for the order's placing, all of them or none: the first refusal."""
    found = [decide_line(state, order.placing, ModelLine(line.sku, units, "")) for line, units in wanted]
    if order.bounded and order_state == "reserved":
        room = held_room(state, order, limits_of(state, order.channel))
        found = within(room, found, [units for _, units in wanted])
    refusal = next((each for each in found if isinstance(each, Outcome)), None)
    if refusal is not None:
        return refusal
    order.state = order_state
    for (line, _), decided in zip(wanted, found, strict=True):
        assert not isinstance(decided, Outcome)
        hold(state, order, line, decided)
    return None


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


def give_back(state: ModelState, order: ModelOrder, line: ModelLine, units: int, fills: bool = True) -> None:
    """Cancel units of a line: those that wait first, then those of the smallest hold, those from pools last."""
    sku, counter = state.skus[line.sku], "locked" if order.state == "reserved" else "committed"
    line.cancelled += units
    short = min(units, line.short)
    sku.add(f"short@{order.channel}", -short)
    line.short -= short
    units -= short
    preordered = min(units, line.preordered)
    sku.add(f"preordered@{order.channel}", -preordered)
    line.preordered -= preordered
    units -= preordered
    pooled = {name: _from_pools(line, name) for name in line.warehouses}
    shelf, held = {name: units - pooled[name] for name, units in line.warehouses.items()}, dict(line.warehouses)
    for part in (shelf, pooled):
        for name in sorted(part, key=lambda name: (part[name], sku.warehouses.index(name))):
            taken = min(units, part[name])
            sku.add(f"{counter}@{name}", -taken)
            held[name] -= taken
            units -= taken
            if part is pooled:
                _put_back(sku, line, name, taken)
    line.warehouses = {name: left for name, left in held.items() if left}
    line.state = open_state(order, line) or "cancelled"
    evaluate(state, line.sku, fills=fills)


def _from_pools(line: ModelLine, warehouse: str) -> int:
    return sum(units for pool, units in line.pools.items() if pool_warehouse(pool) == warehouse)


def _put_back(sku: ModelSku, line: ModelLine, warehouse: str, units: int) -> None:
    """Return units of a line to its pools at a warehouse."""
    pools = dict(line.pools)
    for pool in sorted(pool for pool in pools if pool_warehouse(pool) == warehouse):
        back = min(units, pools[pool])
        put_back(sku, pool, back)
        pools[pool] -= back
        units -= back
    line.pools = {pool: left for pool, left in pools.items() if left}


def finish_change(order: ModelOrder) -> None:
    """Count the change; an order of which nothing is left to be shipped ends."""
    if not any(line.outstanding for line in order.lines):
        order.state = "shipped" if any(line.shipped for line in order.lines) else "cancelled"
        order.expires_at = None
    order.sequence += 1
