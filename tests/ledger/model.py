"""A model of the ledger in plain Python: `advance(state, command, now) -> answer`.

In: the commands that the ledger takes. Out: the answer to each; the state is changed in place. The model was written
from the rules alone: a difference from the Lua is a mistake in one of the two, or a gap in the rules.
"""

from __future__ import annotations

import math
from typing import assert_never

from stocktide.tables.ledger import commands
from stocktide.tables.ledger.outcomes import REFUSALS, REFUSALS_OF_LINES, Outcome
from tests.ledger import (
    model_actions,
    model_approvals,
    model_changes,
    model_expected,
    model_orders,
    model_policy,
    model_reroute,
    model_state,
)
from tests.ledger.model_counts import finish_counts, take_part
from tests.ledger.model_movements import move, return_refusal, ship, take_back
from tests.ledger.model_policy import OfferState, current_offer
from tests.ledger.model_pools import settle_pools
from tests.ledger.model_promises import settle_promises
from tests.ledger.model_queue import evaluate, next_line
from tests.ledger.model_state import UNPLACED
from tests.ledger.model_voids import void

OrderCommand = (
    commands.Pay
    | commands.Cancel
    | commands.Change
    | commands.HoldBack
    | commands.Assign
    | commands.Extend
    | commands.Ship
    | commands.TakeBack
)


def advance(state: model_state.ModelState, command: commands.Command, now: int) -> model_state.ModelAnswer:
    """Decide one command. The ledger's time never goes back."""
    state.now = max(state.now, now)
    state.alerts.clear()
    state.refused.clear()
    outcome, replayed = _decide(state, command)
    for order in list(state.orders.values()):
        _apply_due_returns(state, order)
    origin = getattr(command, "origin", None)
    if origin is not None and not replayed and outcome in REFUSALS - _silent_refusals(command):
        state.refused.append(outcome)
    return model_state.ModelAnswer(outcome, replayed, tuple(state.alerts), tuple(state.refused))


def end_batch(state: model_state.ModelState) -> model_state.ModelAnswer:
    """Set the promised dates, and take the steps of counts that follow a batch."""
    state.alerts.clear()
    state.refused.clear()
    settle_promises(state)
    finish_counts(state)
    return model_state.ModelAnswer("counting", False, tuple(state.alerts), tuple(state.refused))


def _silent_refusals(command: commands.Command) -> frozenset[Outcome]:
    """Refusals without a dead letter: an order that finds no stock is no bad input."""
    return REFUSALS_OF_LINES if isinstance(command, commands.Place) else frozenset()


def _is_ahead(state: model_state.ModelState, command: commands.Place | OrderCommand) -> bool:
    """Rule 40, for a new command: a repeat is answered whatever its time."""
    order = state.orders.get(command.order_id)
    if order is not None and isinstance(command, commands.Place) and order.state != "parked":
        return False
    if order is not None and order.state not in UNPLACED and command.id in order.events:
        return False
    return command.at is not None and command.at > state.now + model_state.FUTURE_MS_MAX


def _decide(state: model_state.ModelState, command: commands.Command) -> tuple[Outcome, bool]:
    if isinstance(command, commands.Place | OrderCommand) and _is_ahead(state, command):
        return Outcome.OCCURRED_IN_FUTURE, False
    match command:
        case commands.Place():
            return _place(state, command)
        case commands.Approve() | commands.Reject():
            return _approve(state, command)
        case (
            commands.Pay()
            | commands.Cancel()
            | commands.Change()
            | commands.HoldBack()
            | commands.Assign()
            | commands.Extend()
            | commands.Ship()
            | commands.TakeBack()
        ):
            return _order_event(state, command)
        case commands.Receive() | commands.Adjust() | commands.Count() | commands.Transfer():
            return (
                take_part(state, command)
                if isinstance(command, commands.Count) and command.parts
                else move(state, command)
            )
        case commands.Void():
            return void(state, command)
        case commands.Expect():
            return model_expected.expect(state, command)
        case commands.Reserve() | commands.Release():
            return move(state, command)
        case commands.SetPolicy() | commands.DeletePolicy():
            return _policy(state, command)
        case commands.KnowChannel():
            known = command.channel in state.channels
            _make_known(state, command.channel)
            return Outcome.CHANNEL_KNOWN, known
        case commands.Sweep() | commands.ContinueCounts():
            return Outcome.SWEPT, False  # the model leaves no work for later
        case commands.Tick():
            return _tick(state), False
    assert_never(command)


def _place(state: model_state.ModelState, command: commands.Place) -> tuple[Outcome, bool]:
    known = state.orders.get(command.order_id)
    if known is None or known.state == "parked":
        _make_known(state, command.channel)
        state.placed.add(command.order_id)
        outcome = (model_approvals.request if command.force else model_orders.place)(state, command)
        for event in known.parked if known else ():
            _retry(state, event)
        return outcome, False
    model_orders.expire_if_due(state, known)
    _end_request(state, command.order_id, known)
    same_id = known.events.get(command.id, known.fingerprint)
    if {known.fingerprint, same_id} != {command.fingerprint}:
        return Outcome.CONFLICT, False
    return Outcome(known.outcome), True


def _approve(state: model_state.ModelState, command: commands.Approve | commands.Reject) -> tuple[Outcome, bool]:
    order = state.orders.get(command.order_id)
    if order is None or order.approval is None:
        return Outcome.UNKNOWN_ORDER, False
    if model_orders.expire_if_due(state, order):
        _apply_due_returns(state, order)
    _end_request(state, command.order_id, order)
    waits = order.state in UNPLACED
    decided = model_approvals.approve(state, order, command)
    if waits:
        _retry_parked(state, command.order_id)
    return decided


def _end_request(state: model_state.ModelState, order_id: str, order: model_state.ModelOrder) -> bool:
    """End a request for approval whose time is over."""
    ends = model_approvals.expire_if_due(state, order_id, order)
    if ends:
        _retry_parked(state, order_id)
    return ends


def _retry_parked(state: model_state.ModelState, order_id: str) -> None:
    """Decide the events that waited for an order that is decided now."""
    order = state.orders.get(order_id)
    if order is not None and order.state not in UNPLACED:
        waited, order.parked = order.parked, []
        for event in waited:
            _retry(state, event)


# Channels that may send events ahead of one order.
SENDERS_MAX = 8
_DONE = {
    "Pay": Outcome.PAID,
    "Cancel": Outcome.CANCELLED,
    "Change": Outcome.CHANGED,
    "HoldBack": Outcome.CHANGED,
    "Assign": Outcome.CHANGED,
    "Extend": Outcome.EXTENDED,
    "Ship": Outcome.SHIPPED,
    "TakeBack": Outcome.RETURNED,
}


def _order_event(
    state: model_state.ModelState, command: OrderCommand, event: model_state.ParkedEvent | None = None
) -> tuple[Outcome, bool]:
    """Decide an event of an order; `event` is its entry among the parked ones, where it has waited."""
    order = state.orders.get(command.order_id)
    if order is not None:
        _end_request(state, command.order_id, order)
    if order is None or order.state in UNPLACED:
        return _park(state, order, command, event)
    if model_orders.expire_if_due(state, order):
        _apply_due_returns(state, order)
    if _channel_of(command) not in (None, order.channel):
        return Outcome.UNKNOWN_ORDER, False
    seen = order.events.get(command.id)
    if seen is not None:
        return (_DONE[type(command).__name__], True) if seen == command.fingerprint else (Outcome.CONFLICT, False)
    is_early = isinstance(command, commands.TakeBack) and return_refusal(order, command) == Outcome.PARKED
    if is_early or _parked_event(order, command):
        return _park(state, order, command, event)
    outcome, replayed = _apply(state, order, command)
    if outcome not in REFUSALS and not replayed:
        order.events[command.id] = command.fingerprint
        _apply_due_returns(state, order)
    return outcome, replayed


def _retry(state: model_state.ModelState, event: model_state.ParkedEvent) -> None:
    """Decide an event that has waited."""
    outcome, _ = _order_event(state, event.command, event)
    if outcome in REFUSALS:
        _drop(state, event, outcome)


def _drop(state: model_state.ModelState, event: model_state.ParkedEvent, outcome: Outcome) -> None:
    state.refused.append(outcome)
    state.alerts.append(("wait_failed", event.command.order_id))


def _apply_due_returns(state: model_state.ModelState, order: model_state.ModelOrder) -> None:
    """Retry what no longer needs to wait: a placed order keeps only returns that a shipment may still allow."""
    if order.state in UNPLACED:
        return
    while decided := [each for each in order.parked if return_refusal(order, each.command) != Outcome.PARKED]:
        order.parked.remove(decided[0])
        _retry(state, decided[0])


def _apply(state: model_state.ModelState, order: model_state.ModelOrder, command: OrderCommand) -> tuple[Outcome, bool]:
    match command:
        case commands.Pay():
            late = order.state == "expired" and command.if_expired is not None
            return (model_changes.take_again if late else model_orders.pay)(state, order, command)
        case commands.Cancel():
            in_part = model_changes.cancel_removed if command.removal else model_changes.cancel_in_part
            return (in_part if command.lines else model_orders.cancel)(state, order, command)
        case commands.Change():
            return model_changes.change(state, order, command)
        case commands.HoldBack():
            return model_actions.hold_back(state, order, command)
        case commands.Assign():
            return model_actions.assign(state, order, command)
        case commands.Extend():
            return model_orders.extend(state, order, command)
        case commands.Ship():
            return ship(state, order, command)
        case commands.TakeBack():
            return take_back(state, order, command)
    assert_never(command)


def _parked_event(order: model_state.ModelOrder, command: OrderCommand) -> model_state.ParkedEvent | None:
    key = (command.id, _channel_of(command))
    return next((each for each in order.parked if (each.command.id, _channel_of(each.command)) == key), None)


def _channel_of(command: OrderCommand) -> str | None:
    """The channel that sent an event, if that is known."""
    channel: str | None = getattr(command, "channel", None)
    return channel


def _park(
    state: model_state.ModelState,
    order: model_state.ModelOrder | None,
    command: OrderCommand,
    event: model_state.ParkedEvent | None = None,
) -> tuple[Outcome, bool]:
    """Rules 29 and 43: an event from Kafka waits for what it needs; one over HTTP is refused at once."""
    known = None if order is None else _parked_event(order, command)
    if command.origin is None and (order is None or order.state in UNPLACED):
        return Outcome.UNKNOWN_ORDER, False
    if known is not None:
        same = known.command.fingerprint == command.fingerprint
        return (Outcome.PARKED, True) if same else (Outcome.CONFLICT, False)
    order = order or model_state.ModelOrder("parked")
    if event is None:
        assert command.origin is not None
        size = max(model_state.EVENT_BYTES_MIN, len(command.origin.raw.encode()))
        if size > state.waiting_order_bytes_max:
            return Outcome.TOO_LARGE, False
        parked = [each for other in state.orders.values() for each in other.parked]
        own = [each for each in order.parked if _channel_of(each.command) == _channel_of(command)]
        limit = state.waiting_order_bytes_max
        if any(
            size + sum(each.bytes for each in part) > most for part, most in ((own, limit), (order.parked, 8 * limit))
        ):
            return Outcome.TOO_MANY_EVENTS, False
        if size + sum(each.bytes for each in parked) > state.waiting_bytes_max:
            return Outcome.TOO_MANY_EVENTS, False
        event = model_state.ParkedEvent(command, size, state.now, state.now + state.park_ms)
    order.parked.append(event)
    state.orders[command.order_id] = order
    return Outcome.PARKED, False


def _policy(state: model_state.ModelState, command: commands.SetPolicy | commands.DeletePolicy) -> tuple[Outcome, bool]:
    """Rules 2 to 5: a level is replaced or removed as a whole, and the change waives the dwell."""
    sku = state.skus.get(command.sku or "")
    policy = command.policy if isinstance(command, commands.SetPolicy) else None
    own = state.channels.get(command.channel) if command.sku is None else sku and sku.policies.get(command.channel)
    if command.expected not in (None, model_policy.policy_digest(own)):
        if policy != own:
            return Outcome.CONFLICT, False
        return (Outcome.POLICY_DELETED if policy is None else Outcome.POLICY_SET), True
    is_new = False
    before = {name: current_offer(state, command.channel, each) for name, each in state.skus.items()}
    if isinstance(command, commands.SetPolicy):
        is_new = command.channel != "*" and command.channel not in state.channels
        if command.sku is None:
            state.channels[command.channel] = dict(command.policy)
        else:
            sku = state.skus.setdefault(command.sku, model_state.ModelSku())
            sku.policies[command.channel] = dict(command.policy)
        if is_new:  # its first side follows from this policy alone
            state.channels.setdefault(command.channel, None)
            _evaluate_all(state)
    elif command.sku is None:
        if state.channels.get(command.channel) is None:
            return Outcome.UNKNOWN_POLICY, False
        state.channels[command.channel] = None
    elif sku is None or sku.policies.pop(command.channel, None) is None:
        return Outcome.UNKNOWN_POLICY, False
    for name, each in state.skus.items():
        if each is sku:
            evaluate(state, name, waived=command.channel, fills=not is_new)
        elif sku is None:
            _reevaluate(state, name, command.channel, before[name], fills=not is_new)
    return (Outcome.POLICY_SET if isinstance(command, commands.SetPolicy) else Outcome.POLICY_DELETED), False


def _reevaluate(state: model_state.ModelState, name: str, channel: str, before: OfferState, fills: bool) -> None:
    """A new policy of a channel changes only the SKUs whose offer to it moves, whose waiting orders can be filled, or
    whose held units may move; dwells of other channels end with it."""
    sku = state.skus[name]
    sides = dict(sku.sides)
    model_policy.evaluate(state, sku, waived=channel, channels=(channel,))
    follows = fills and (next_line(state, name) is not None or model_reroute.is_due(state, name))
    if current_offer(state, channel, sku) != before or follows:
        sku.sides = sides  # orders are filled before the channel reopens
        evaluate(state, name, waived=channel, fills=fills)


def _make_known(state: model_state.ModelState, channel: str) -> None:
    """Rule 5: the first policy, order or subscription makes a channel known, and every SKU then gives it a side."""
    if channel not in state.channels:
        state.channels[channel] = None
        _evaluate_all(state)


def _evaluate_all(state: model_state.ModelState) -> None:
    for name in state.skus:
        evaluate(state, name)


def _deadline(state: model_state.ModelState, order: model_state.ModelOrder) -> float:
    """When the expiry step is due for an order: the first of the end of its hold, and of its parked events."""
    ends = [order.expires_at] if order.expires_at else []
    alerts = [each.since + state.waiting_alert_ms for each in order.parked if not each.alerted]
    return min([*ends, *alerts, *(each.until for each in order.parked)], default=math.inf)


def _tick(state: model_state.ModelState) -> Outcome:
    """End every hold, wait, pool and dwell that is over, without a bound."""
    due = model_expected.report_overdue(state)
    for order_id, order in sorted(state.orders.items(), key=lambda entry: (_deadline(state, entry[1]), entry[0])):
        due |= model_orders.expire_if_due(state, order) | _end_request(state, order_id, order)
        _apply_due_returns(state, order)
        for event in list(order.parked):
            if state.now >= event.until:
                order.parked.remove(event)
                _drop(state, event, Outcome.UNKNOWN_ORDER if order.state in UNPLACED else Outcome.MORE_THAN_SHIPPED)
                due = True
            elif not event.alerted and state.now >= event.since + state.waiting_alert_ms:
                event.alerted = due = True
                state.alerts.append(("waiting_for_order", order_id))
        if order.state == "parked" and not order.parked:
            del state.orders[order_id]
    due |= settle_pools(state, state.skus)
    _evaluate_all(state)
    return Outcome.EXPIRED if due else Outcome.NOTHING_DUE
