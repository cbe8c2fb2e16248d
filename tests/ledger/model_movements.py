"""The model's movements, shipments and returns (rules 31 to 38)."""

from __future__ import annotations

from collections import Counter

from stocktide.tables.ledger.commands import Adjust, Count, Receive, Release, Reserve, Ship, TakeBack, Transfer, Void
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_expected import arrive, is_announced
from tests.ledger.model_orders import commit
from tests.ledger.model_pools import pool_refusal, set_aside, settle_pools, ship_from_pools
from tests.ledger.model_queue import evaluate
from tests.ledger.model_state import (
    COUNT_MS_MAX,
    FRESH_MS,
    FUTURE_MS_MAX,
    CountHistory,
    ModelLine,
    ModelMovement,
    ModelOrder,
    ModelSku,
    ModelState,
)

AnyMovement = Receive | Adjust | Count | Transfer | Reserve | Release


def move(state: ModelState, command: AnyMovement) -> tuple[Outcome, bool]:
    """Rule 38: a movement counts once in its warehouse; rule 34: all of its lines or none."""
    known = known_answer(state, command)
    if known is not None:
        return known
    refusal = _refusal(state, command)
    reason = command.reason if isinstance(command, Adjust) else ""
    record = ModelMovement(
        command.fingerprint,
        refusal or "",
        kind=type(command).__name__,
        at=command.at,
        reason=reason,
        units=dict(command.lines),
    )
    if isinstance(command, Receive) and is_announced(state, command.warehouse, command.expected_id):
        record.expected_id = command.expected_id
    if refusal is None:
        for name, units in command.lines:
            if isinstance(command, Count) and (why := count_refusal(state, name, command)) is not None:
                record.lines.append((name, why))
                continue
            before = _goods(state, name)
            record.lines.append((name, apply_line(state, name, units, command)))
            after = _goods(state, name)
            changes = {counter: after.get(counter, 0) - before.get(counter, 0) for counter in {**before, **after}}
            record.effects[name] = {counter: change for counter, change in changes.items() if change}
        outcomes = [outcome for _, outcome in record.lines]
        record.outcome = _summary(command, outcomes)
        if Outcome.COUNT_TOO_OLD in outcomes and record.outcome != Outcome.COUNT_TOO_OLD and command.origin:
            state.refused.append(Outcome.COUNT_TOO_OLD)
    state.movements[command.warehouse, command.id] = record
    return Outcome(record.outcome), False


def known_answer(state: ModelState, command: AnyMovement | Void) -> tuple[Outcome, bool] | None:
    """The answer to a movement that is known, or dated too far ahead."""
    known = state.movements.get((command.warehouse, command.id))
    if known is not None:
        if known.fingerprint != command.fingerprint:
            return Outcome.CONFLICT, False
        return Outcome(known.outcome), True
    return (Outcome.OCCURRED_IN_FUTURE, False) if command.at > state.now + FUTURE_MS_MAX else None


def _goods(state: ModelState, name: str) -> dict[str, int]:
    counters = state.skus.get(name, ModelSku()).counters
    return {counter: units for counter, units in counters.items() if counter.startswith(("on_hand@", "damaged@"))}


def apply_line(state: ModelState, name: str, units: int, command: AnyMovement) -> Outcome:
    sku = state.skus.setdefault(name, ModelSku())
    before = free_units(sku)
    outcome = _apply(state, name, units, command)
    finish_change(state, name, before)
    return outcome


def _refusal(state: ModelState, command: AnyMovement) -> Outcome | None:
    if isinstance(command, Reserve | Release):
        settle_pools(state, (name for name, _ in command.lines))
    if isinstance(command, Reserve) and command.until_at is not None and command.until_at <= state.now:
        return Outcome.POOL_ENDED
    for name, units in command.lines:
        sku = state.skus.get(name)
        if isinstance(command, Reserve | Release):
            if (why := pool_refusal(sku, units, command)) is not None:
                return why
            continue
        if isinstance(command, Adjust) and sku is None:
            return Outcome.UNKNOWN_SKU
        if isinstance(command, Adjust) and sku is not None and command.reason == "damages":
            damaged = max(0, sku.count(f"damaged@{command.warehouse}"))
            if units > damaged:
                return Outcome.MORE_THAN_DAMAGED
    return None


def count_refusal(state: ModelState, name: str, command: Count) -> Outcome | None:
    """Rules 35 and 41, for one line of a count."""
    history = state.skus.get(name, ModelSku()).history.get(command.warehouse, CountHistory())
    if history.counted_at is not None and command.at < history.counted_at:
        return Outcome.COUNT_SUPERSEDED
    return Outcome.COUNT_TOO_OLD if command.at < state.now - COUNT_MS_MAX else None


_TAKEN = {
    "Receive": Outcome.RECEIVED,
    "Adjust": Outcome.ADJUSTED,
    "Count": Outcome.COUNTED,
    "Transfer": Outcome.TRANSFERRED,
    "Reserve": Outcome.RESERVED,
    "Release": Outcome.RELEASED,
}


def _summary(command: AnyMovement, lines: list[str]) -> Outcome:
    """The outcome of a movement: what it did, or where no line did anything, the first reason."""
    taken = _TAKEN[type(command).__name__]
    if isinstance(command, Count) and 0 < lines.count(taken) < len(lines):
        return Outcome.COUNTED_IN_PART
    return taken if taken in lines else Outcome(lines[0])


def _apply(state: ModelState, name: str, units: int, command: AnyMovement) -> Outcome:
    sku, warehouse, taken = state.skus[name], command.warehouse, _TAKEN[type(command).__name__]
    sku.appear(warehouse)
    if isinstance(command, Count):
        return _count(sku, units, command)
    if isinstance(command, Reserve | Release):
        set_aside(state, sku, units, command)
        return taken
    if isinstance(command, Receive):
        fresh = change_on_hand(state, name, warehouse, units, command.at)
        arrive(state, name, units, warehouse, command.expected_id)
    elif isinstance(command, Transfer):
        sku.appear(command.to_warehouse)
        left = change_on_hand(state, name, warehouse, -units, command.at)
        came = change_on_hand(state, name, command.to_warehouse, units, command.at)
        fresh = left or came
    elif command.reason == "scrapped":
        sku.add(f"damaged@{warehouse}", units)
        fresh = True
    else:
        fresh = change_on_hand(state, name, warehouse, units, command.at)
        if command.reason == "damages":
            sku.add(f"damaged@{warehouse}", -units)  # counts do not include damaged units
    return taken if fresh else Outcome.ALREADY_COUNTED


def _count(sku: ModelSku, units: int, command: Count) -> Outcome:
    """Rules 34 and 35: absolute as of its time, carried forward by what moved since."""
    history = sku.history.setdefault(command.warehouse, CountHistory())
    carried = sum(change for at, change in history.moves if at > command.at)
    counter = f"on_hand@{command.warehouse}"
    sku.add(counter, units + carried - sku.count(counter))
    history.counted_at = command.at
    return Outcome.COUNTED


def change_on_hand(state: ModelState, name: str, warehouse: str, change: int, at: int) -> bool:
    """Move units at `at`, unless a count includes them already: that is reported if they are fresh (rule 40)."""
    if change == 0:
        return True
    sku = state.skus[name]
    history = sku.history.setdefault(warehouse, CountHistory())
    sku.appear(warehouse)
    if history.counted_at is not None and at <= history.counted_at:
        if abs(state.now - at) <= FRESH_MS:
            state.alerts.append(("already_counted", name))
        return False
    sku.add(f"on_hand@{warehouse}", change)
    history.moves.append((at, change))
    return True


def free_units(sku: ModelSku) -> dict[str, int]:
    return {warehouse: sku.free(warehouse) for warehouse in sku.warehouses} | sku.counters


def finish_change(state: ModelState, name: str, before: dict[str, int]) -> None:
    """End a change: report a warehouse that fell further below zero (rule 34), fill the queue, update the sides."""
    sku = state.skus[name]
    for warehouse in sku.warehouses:
        if sku.free(warehouse) < min(0, before.get(warehouse, 0)):
            state.alerts.append(("shortfall", name))
        for goods in ("on_hand", "damaged"):  # rule 47
            counter = f"{goods}@{warehouse}"
            if sku.count(counter) < min(0, before.get(counter, 0)):
                state.alerts.append((f"{goods}_negative", name))
    evaluate(state, name)


def ship(state: ModelState, order: ModelOrder, command: Ship) -> tuple[Outcome, bool]:
    """Rules 31 and 32."""
    lines = {line.sku: line for line in order.lines}
    if any(name not in lines for name, _, _ in command.lines):
        return Outcome.NOT_IN_ORDER, False
    if order.state == "reserved":
        commit(state, order)
    for name, units, warehouse in command.lines:
        sku = state.skus.setdefault(name, ModelSku())
        before = free_units(sku)
        change_on_hand(state, name, warehouse, -units, command.at)
        beyond = _ship_line(order, lines[name], sku, units, warehouse)
        if beyond:
            state.alerts.append(("shipped_beyond_order", name))
        finish_change(state, name, before)
    for line in order.lines:
        close(line)
    if order.state == "paid" and not any(line.outstanding for line in order.lines):
        order.state = "shipped"
    order.sequence += 1
    return Outcome.SHIPPED, False


def _ship_line(order: ModelOrder, line: ModelLine, sku: ModelSku, units: int, warehouse: str) -> int:
    """Take units from the holds there, other holds, then preorders; return the units beyond the order."""
    line.shipped += units
    sku.appear(warehouse)
    holders = [warehouse, *(name for name in sku.warehouses if name != warehouse)]
    for holder in holders:
        taken = min(units, line.warehouses.get(holder, 0))
        if taken:
            sku.add(f"committed@{holder}", -taken)
            line.warehouses[holder] -= taken
            if not line.warehouses[holder]:
                del line.warehouses[holder]
            ship_from_pools(line, holder, taken)
            units -= taken
    preordered = min(units, line.preordered)
    sku.add(f"preordered@{order.channel}", -preordered)
    line.preordered -= preordered
    short = min(units - preordered, line.short)
    sku.add(f"short@{order.channel}", -short)
    line.short -= short
    return units - preordered - short


def return_refusal(order: ModelOrder, command: TakeBack) -> Outcome | None:
    """Rules 33 and 43: why it cannot be applied; `parked` where a later shipment may change that."""
    lines = {line.sku: line for line in order.lines}
    back: Counter[str] = Counter()
    is_early = False
    for name, units, _, _ in command.lines:
        back[name] += units
        if name not in lines:
            return Outcome.NOT_IN_ORDER
        missing = lines[name].returned + back[name] - lines[name].shipped
        if missing > (lines[name].outstanding if command.origin else 0):
            return Outcome.MORE_THAN_SHIPPED
        is_early = is_early or missing > 0
    return Outcome.PARKED if is_early else None


def take_back(state: ModelState, order: ModelOrder, command: TakeBack) -> tuple[Outcome, bool]:
    """Rule 33."""
    refusal = return_refusal(order, command)
    if refusal is not None:
        return refusal, False
    lines = {line.sku: line for line in order.lines}
    for name, units, warehouse, condition in command.lines:
        sku = state.skus[name]
        before = free_units(sku)
        sku.appear(warehouse)
        if condition == "damaged":
            sku.add(f"damaged@{warehouse}", units)
        else:
            change_on_hand(state, name, warehouse, units, command.at)
        lines[name].returned += units
        finish_change(state, name, before)
    for line in order.lines:
        close(line)
    order.sequence += 1
    return Outcome.RETURNED, False


def close(line: ModelLine) -> None:
    """Make a line `shipped` when nothing of it is outstanding, `returned` when all units came back."""
    if line.state in {"rejected", "cancelled", "expired"} or line.outstanding or not line.shipped:
        return
    line.state = "returned" if line.returned >= line.shipped else "shipped"
