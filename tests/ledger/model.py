"""A model of the ledger: `step(state, command, now) -> state, answer`, with no Redis and no Lua.

In: the commands that the ledger takes. Out: the state after each and what the caller is told. It was written
from the rules alone: a difference from the Lua is a mistake in one of the two, or a hole in the rules.
"""

from __future__ import annotations

from copy import deepcopy
from typing import assert_never

from tables.commands import (
    Adjust,
    Cancel,
    Command,
    ContinueCounts,
    Count,
    DeletePolicy,
    Extend,
    KnowChannel,
    Pay,
    Place,
    Receive,
    SetPolicy,
    Ship,
    Sweep,
    TakeBack,
    Tick,
    Transfer,
)
from tables.outcomes import REFUSALS, REFUSALS_OF_LINES, Outcome
from tests.ledger import model_orders
from tests.ledger.model_counts import finish_counts, take_part
from tests.ledger.model_movements import move, ship, take_back
from tests.ledger.model_policy import evaluate
from tests.ledger.model_state import EVENTS_MAX, FUTURE_MS_MAX, Answer, Order, Sku, State

OrderCommand = Pay | Cancel | Extend | Ship | TakeBack


def step(state: State, command: Command, now: int) -> tuple[State, Answer]:
    """One command on a copy of the state; the ledger's time never goes back."""
    after = deepcopy(state)
    return after, advance(after, command, now)


def advance(state: State, command: Command, now: int) -> Answer:
    """The same in place, for long runs."""
    state.now = max(state.now, now)
    state.alerts.clear()
    state.refused.clear()
    outcome, replayed = _decide(state, command)
    origin = getattr(command, "origin", None)
    if origin is not None and not replayed and outcome in REFUSALS - _kept_quiet(command):
        state.refused.append(outcome)
    return Answer(outcome, replayed, tuple(state.alerts), tuple(state.refused))


def end_batch(state: State) -> Answer:
    """What follows a batch by itself: the steps of counts."""
    state.alerts.clear()
    state.refused.clear()
    finish_counts(state)
    return Answer("counting", False, tuple(state.alerts), tuple(state.refused))


def _kept_quiet(command: Command) -> frozenset[Outcome]:
    """An order that finds no stock is no bad input."""
    return REFUSALS_OF_LINES if isinstance(command, Place) else frozenset()


def _is_ahead(state: State, command: Place | OrderCommand) -> bool:
    """Rule 40, for what is new: a repeat is answered whatever time it carries."""
    order = state.orders.get(command.order_id)
    known = order is not None and order.state != "parked"
    if known and order is not None and (isinstance(command, Place) or command.id in order.events):
        return False
    return command.at is not None and command.at > state.now + FUTURE_MS_MAX


def _decide(state: State, command: Command) -> tuple[Outcome, bool]:
    if isinstance(command, Place | OrderCommand) and _is_ahead(state, command):
        return Outcome.OCCURRED_IN_FUTURE, False
    match command:
        case Place():
            return _place(state, command)
        case Pay() | Cancel() | Extend() | Ship() | TakeBack():
            return _order_event(state, command)
        case Receive() | Adjust() | Count() | Transfer():
            return take_part(state, command) if isinstance(command, Count) and command.parts else move(state, command)
        case SetPolicy() | DeletePolicy():
            return _policy(state, command)
        case KnowChannel():
            known = command.channel in state.channels
            _meet(state, command.channel)
            return Outcome.CHANNEL_KNOWN, known
        case Sweep() | ContinueCounts():
            return Outcome.SWEPT, False  # the model never leaves anything for later
        case Tick():
            return _tick(state), False
    assert_never(command)


def _place(state: State, command: Place) -> tuple[Outcome, bool]:
    known = state.orders.get(command.order_id)
    if known is None or known.state == "parked":
        _meet(state, command.channel)
        outcome = model_orders.place(state, command)
        for event in known.parked if known else ():
            answer, _ = _order_event(state, event)
            if answer in REFUSALS:
                state.refused.append(answer)
        return outcome, False
    model_orders.expire_if_due(state, known)
    same_id = known.events.get(command.id, known.fingerprint)
    if {known.fingerprint, same_id} != {command.fingerprint}:
        return Outcome.CONFLICT, False
    return Outcome(known.outcome), True


_DONE = {
    "Pay": Outcome.PAID,
    "Cancel": Outcome.CANCELLED,
    "Extend": Outcome.EXTENDED,
    "Ship": Outcome.SHIPPED,
    "TakeBack": Outcome.RETURNED,
}


def _order_event(state: State, command: OrderCommand) -> tuple[Outcome, bool]:
    order = state.orders.get(command.order_id)
    if order is None or order.state == "parked":
        return _park(state, order, command)
    model_orders.expire_if_due(state, order)
    seen = order.events.get(command.id)
    if seen is not None:
        return (_DONE[type(command).__name__], True) if seen == command.fingerprint else (Outcome.CONFLICT, False)
    if len(order.events) < EVENTS_MAX:
        outcome, replayed = _apply(state, order, command)
        if outcome not in REFUSALS and not replayed:
            order.events[command.id] = command.fingerprint
        return outcome, replayed
    trial = deepcopy(state)  # a refusal for another reason, or a repeat, says more than the limit does
    outcome, replayed = _apply(trial, trial.orders[command.order_id], command)
    return (outcome, replayed) if outcome in REFUSALS or replayed else (Outcome.TOO_MANY_EVENTS, False)


def _apply(state: State, order: Order, command: OrderCommand) -> tuple[Outcome, bool]:
    match command:
        case Pay():
            return model_orders.pay(state, order, command)
        case Cancel():
            return model_orders.cancel(state, order, command)
        case Extend():
            return model_orders.extend(state, order, command)
        case Ship():
            return ship(state, order, command)
        case TakeBack():
            return take_back(state, order, command)
    assert_never(command)


def _park(state: State, order: Order | None, command: OrderCommand) -> tuple[Outcome, bool]:
    """Rule 29: an event from Kafka waits for its order; a caller over HTTP is told at once."""
    if command.origin is None:
        return Outcome.UNKNOWN_ORDER, False
    if order is None:
        order = state.orders[command.order_id] = Order("parked", parked_until=state.now + state.park_ms)
    seen = order.events.get(command.id)
    if seen is not None:
        return (Outcome.PARKED, True) if seen == command.fingerprint else (Outcome.CONFLICT, False)
    if len(order.parked) >= EVENTS_MAX:
        return Outcome.TOO_MANY_EVENTS, False
    order.events[command.id] = command.fingerprint
    order.parked.append(command)
    return Outcome.PARKED, False


def _policy(state: State, command: SetPolicy | DeletePolicy) -> tuple[Outcome, bool]:
    """Rules 2 to 5: a level is replaced or removed whole, and the change waives the dwell."""
    sku = state.skus.get(command.sku or "")
    if isinstance(command, SetPolicy):
        is_new = command.channel != "*" and command.channel not in state.channels
        if command.sku is None:
            state.channels[command.channel] = dict(command.policy)
        else:
            sku = state.skus.setdefault(command.sku, Sku())
            sku.policies[command.channel] = dict(command.policy)
        if is_new:  # it starts by this policy, as if it had never been on a shelf
            state.channels.setdefault(command.channel, None)
            _evaluate_all(state)
    elif command.sku is None:
        if state.channels.get(command.channel) is None:
            return Outcome.UNKNOWN_POLICY, False
        state.channels[command.channel] = None
    elif sku is None or sku.policies.pop(command.channel, None) is None:
        return Outcome.UNKNOWN_POLICY, False
    for touched in [sku] if sku is not None else state.skus.values():
        evaluate(state, touched, waived=command.channel)
    return (Outcome.POLICY_SET if isinstance(command, SetPolicy) else Outcome.POLICY_DELETED), False


def _meet(state: State, channel: str) -> None:
    """Rule 5: known from the first policy, order or subscription; every SKU then puts it on a side."""
    if channel not in state.channels:
        state.channels[channel] = None
        _evaluate_all(state)


def _evaluate_all(state: State) -> None:
    for sku in state.skus.values():
        evaluate(state, sku)


def _tick(state: State) -> Outcome:
    """End every hold, every wait of parked events and every dwell whose time has come, without a bound."""
    due = False
    for order_id, order in list(state.orders.items()):
        if order.state == "parked" and state.now >= order.parked_until:
            state.refused.extend(Outcome.UNKNOWN_ORDER for _ in order.parked)
            del state.orders[order_id]
            due = True
        due |= model_orders.expire_if_due(state, order)
    _evaluate_all(state)
    return Outcome.EXPIRED if due else Outcome.NOTHING_DUE
