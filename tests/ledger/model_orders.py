"""The model's orders from placing to payment, cancellation and expiry (rules 11 to 27 and 30)."""

from __future__ import annotations

from copy import deepcopy

from stocktide.tables.ledger.commands import Cancel, Extend, Pay, Place
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_limits import held_room, limits_of, within
from tests.ledger.model_lines import DecidedLine, decide_line, decide_sold
from tests.ledger.model_pools import give_back, settle_pools
from tests.ledger.model_queue import evaluate, go_on
from tests.ledger.model_state import HOLD_MS_MAX, UNPLACED, ModelLine, ModelOrder, ModelState

FINAL = {"cancelled", "expired", "rejected"}


def place(state: ModelState, command: Place) -> Outcome:
    """Hold the ordered units. The record is written whatever the outcome."""
    return decide(state, command, new_order(state, command))


def new_order(state: ModelState, command: Place) -> ModelOrder:
    """An order of which no unit is held yet."""
    return ModelOrder(
        state="rejected",
        channel=command.channel,
        sequence=1,
        placed_at=state.now,
        fingerprint=command.fingerprint,
        lines=[ModelLine(sku, units, "rejected") for sku, units in command.lines],
        events={command.id: command.fingerprint},
        priority=command.priority,
        placing=command,
        buyer=command.buyer,
    )


def decide(state: ModelState, command: Place, order: ModelOrder) -> Outcome:
    """Decide a new order, or a forced one that was approved."""
    refusal, old = _superseded(state, command)
    end_dwells(state, order)
    before = state.skus
    if refusal is not None:
        for line in order.lines:
            line.reason = refusal
    if old is not None:
        before, lines = deepcopy(state.skus), deepcopy(old.lines)
        release(state, old, "cancelled", fills=False)
    if refusal is None:
        _decide(state, command, order)
    outcome = refusal or _outcome(order)
    state.orders[command.order_id] = order
    if order.state == "rejected":
        state.skus = before
        if old is not None:
            old.lines = lines
    elif old is not None:
        finish(state, old, "cancelled")
        for line in old.lines:
            if line.sku in state.skus:
                go_on(state, line.sku)
    order.outcome = outcome
    return outcome


def _superseded(state: ModelState, command: Place) -> tuple[Outcome | None, ModelOrder | None]:
    """Rule 27: the refusal that the superseded order causes, or the order to release."""
    old = state.orders.get(command.supersedes or "")
    if old is None or old.state in UNPLACED:
        return None, None
    expire_if_due(state, old)
    if old.channel != command.channel:
        return Outcome.CONFLICT, None
    if old.state in FINAL:
        return None, None
    if old.state != "reserved":
        return Outcome.ALREADY_FINAL, None
    return None, old


def _decide(state: ModelState, command: Place, order: ModelOrder) -> None:
    """Rule 21: all or nothing, or line by line; a line is never cut. Rule 49: a sold order is never refused."""
    if command.accept == "sold":
        _hold_sold(state, command, order)
        return
    found = [decide_line(state, command, line) for line in order.lines]
    limits = {} if command.paid or command.force else limits_of(state, order.channel)
    found = within(held_room(state, order, limits), found, [line.quantity for line in order.lines])
    for line, decided in zip(order.lines, found, strict=True):
        line.reason = decided if isinstance(decided, Outcome) else None
    refused = [line for line in order.lines if line.reason]
    if refused and (command.accept == "all" or len(refused) == len(found)):
        return
    order.state = "paid" if command.paid else "reserved"
    order.expires_at = None if command.paid else state.now + command.hold_ms
    order.bounded = bool(limits)
    for line, decided in zip(order.lines, found, strict=True):
        if isinstance(decided, Outcome):
            continue
        hold(state, order, line, decided)


def hold(state: ModelState, order: ModelOrder, line: ModelLine, decided: DecidedLine) -> None:
    """Hold more units of a line."""
    sku, counter = state.skus[line.sku], "locked" if order.state == "reserved" else "committed"
    for warehouse, units in decided.warehouses.items():
        line.warehouses[warehouse] = line.warehouses.get(warehouse, 0) + units
        sku.add(f"{counter}@{warehouse}", units)
    for pool, units in decided.pools.items():
        line.pools[pool] = line.pools.get(pool, 0) + units
        sku.add(f"reserved#{pool}", -units)
    for kind, units in (("preordered", decided.preordered), ("short", decided.short)):
        setattr(line, kind, getattr(line, kind) + units)
        sku.add(f"{kind}@{order.channel}", units)
    if decided.preordered or decided.short:
        queue(state, order)
    line.state = open_state(order, line) or ""
    evaluate(state, line.sku)


def open_state(order: ModelOrder, line: ModelLine) -> str | None:
    """The state of a line with units that are still to be shipped."""
    if line.preordered:
        return "preordered"
    if line.warehouses or line.short:
        return "reserved" if order.state == "reserved" else "committed"
    return None


def queue(state: ModelState, order: ModelOrder) -> None:
    """Give an order its number in the queues."""
    if not order.queued:
        state.queued += 1
        order.queued = state.queued


def _hold_sold(state: ModelState, command: Place, order: ModelOrder) -> None:
    """Rule 49: every line is held, or waits."""
    order.state = "paid" if command.paid else "reserved"
    order.expires_at = None if command.paid else state.now + command.hold_ms
    for line in order.lines:
        hold(state, order, line, decide_sold(state, command, line))


def _outcome(order: ModelOrder) -> Outcome:
    states = {line.state for line in order.lines}
    if order.state == "rejected":
        return next(Outcome(line.reason) for line in order.lines if line.reason)
    if "rejected" in states:
        return Outcome.PARTIAL
    return Outcome.PREORDERED if states == {"preordered"} else Outcome.RESERVED


def end_dwells(state: ModelState, order: ModelOrder) -> None:
    """End dwells and pools that are over, whether or not the timer has run."""
    settle_pools(state, [line.sku for line in order.lines])
    for line in order.lines:
        if line.sku in state.skus:
            evaluate(state, line.sku)


def release(state: ModelState, order: ModelOrder, ending: str, fills: bool = True) -> None:
    """Release every unit that the order holds or waits for, and close its lines."""
    counter = "locked" if order.state == "reserved" else "committed"
    for line in order.lines:
        if not line.outstanding:
            continue
        sku = state.skus[line.sku]
        for warehouse, units in line.warehouses.items():
            sku.add(f"{counter}@{warehouse}", -units)
        sku.add(f"preordered@{order.channel}", -line.preordered)
        sku.add(f"short@{order.channel}", -line.short)
        give_back(sku, line)
        if ending != "expired":
            line.cancelled += line.outstanding
        line.warehouses, line.pools, line.preordered, line.short = {}, {}, 0, 0
        line.state = ending
        evaluate(state, line.sku, fills=fills)


def finish(state: ModelState, order: ModelOrder, ending: str) -> None:
    """End an order whose units were released."""
    order.state = "shipped" if any(line.shipped for line in order.lines) else ending
    order.expires_at = None
    order.sequence += 1


def expire_if_due(state: ModelState, order: ModelOrder) -> bool:
    """Rule 25: the ledger's time ends a hold, whether or not the expiry step has run."""
    if order.state != "reserved" or order.expires_at is None or state.now < order.expires_at:
        return False
    release(state, order, "expired")
    finish(state, order, "expired")
    return True


def pay(state: ModelState, order: ModelOrder, command: Pay) -> tuple[Outcome, bool]:
    """Rules 23 and 25."""
    if order.state in {"paid", "shipped"}:
        return Outcome.PAID, True
    if order.state in FINAL:
        if order.state == "expired" and command.origin is not None:
            state.alerts.append(("paid_after_expiry", command.order_id))
        return Outcome.ALREADY_FINAL, False
    commit(state, order)
    order.sequence += 1
    return Outcome.PAID, False


def commit(state: ModelState, order: ModelOrder) -> None:
    """Turn an unpaid hold into a commitment; preordered units stay preordered."""
    order.state, order.expires_at = "paid", None
    for line in order.lines:
        for warehouse, units in line.warehouses.items():
            sku = state.skus[line.sku]
            sku.add(f"locked@{warehouse}", -units)
            sku.add(f"committed@{warehouse}", units)
        if line.warehouses:
            evaluate(state, line.sku)
        if (line.warehouses or line.short) and not line.preordered:
            line.state = "committed"


def cancel(state: ModelState, order: ModelOrder, command: Cancel) -> tuple[Outcome, bool]:
    """Rules 23 and 24."""
    partly = order.state == "shipped" and any(line.state == "cancelled" for line in order.lines)
    if order.state == "cancelled" or partly:
        return Outcome.CANCELLED, True
    if order.state in FINAL or order.state == "shipped":
        return Outcome.ALREADY_FINAL, False
    for line in order.lines if command.removal == "total" else ():
        if line.outstanding:
            order.removed_ahead[line.sku] = order.removed_ahead.get(line.sku, 0) + line.outstanding
    release(state, order, "cancelled")
    finish(state, order, "cancelled")
    return Outcome.CANCELLED, False


def extend(state: ModelState, order: ModelOrder, command: Extend) -> tuple[Outcome, bool]:
    """Rules 26 and 42."""
    if order.state != "reserved" or order.expires_at is None:
        return Outcome.ALREADY_FINAL, False
    latest = max(order.expires_at, min(state.now + command.hold_ms, order.placed_at + HOLD_MS_MAX))
    if latest != order.expires_at:
        if order.extensions == state.extensions_max:
            return Outcome.TOO_MANY_EVENTS, False
        order.expires_at = latest
        order.extensions += 1
        order.sequence += 1
    return Outcome.EXTENDED, False
