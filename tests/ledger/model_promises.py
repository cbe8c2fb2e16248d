"""The model's promised dates: when the units that a line waits for should come.

The lines that wait for a SKU take their units, in the order of its queue, from its announcements, earliest first.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.ledger.model_policy import EffectivePolicy, effective_policy
from tests.ledger.model_queue import WaitingLine, waiting_lines
from tests.ledger.model_state import ModelLine, ModelOrder, ModelState

DAY_MS = 24 * 3600 * 1000


class _ToCome(NamedTuple):
    """Units of an announcement that are to come."""

    eta: int
    id: str
    warehouse: str
    units: int


def settle_promises(state: ModelState) -> None:
    """End a batch: set the date of each line that waits."""
    for order in state.orders.values():
        for line in order.lines:
            if not line.waiting or line.sku in order.held_back:
                line.promised_at = None
    changed: list[ModelOrder] = []
    for name in state.skus:
        for waiting, eta in _dates(state, name):
            if waiting.line.promised_at != eta:
                _promise(state, name, waiting, eta)
                changed.append(waiting.order)
    for order_id, order in state.orders.items():
        if order_id not in state.placed and any(order is each for each in changed):
            order.sequence += 1
            state.repromised.add(order_id)
    state.placed.clear()


def available_from(state: ModelState, channel: str, name: str) -> int | None:
    """When the next unit would be promised to a standard buyer of a channel."""
    sku = state.skus[name]
    left = _announced(state, name)
    for waiting in waiting_lines(state, name):
        _take(left, effective_policy(state, waiting.order.channel, sku), waiting.line)
    policy = effective_policy(state, channel, sku)
    return next((each.eta for each in left if each.units and _allows(policy, each.warehouse)), None)


def dates_of(state: ModelState, name: str) -> dict[str, int | None]:
    """The date of each order that waits for a SKU."""
    ids = {id(order): order_id for order_id, order in state.orders.items()}
    return {ids[id(waiting.order)]: eta for waiting, eta in _dates(state, name)}


def _promise(state: ModelState, name: str, waiting: WaitingLine, eta: int | None) -> None:
    order, line = waiting.order, waiting.line
    before = line.promised_at or line.first_promised_at
    line.promised_at = eta
    if eta is None:
        return
    line.first_promised_at = line.first_promised_at or eta
    line.slips += before is not None and eta > before
    days = effective_policy(state, order.channel, state.skus[name]).slip_days_max
    if days is not None and eta - line.first_promised_at > days * DAY_MS and not order.choice_due:
        order.choice_due = True
        (order_id,) = (id_ for id_, each in state.orders.items() if each is order)
        state.alerts.append(("choice_due", order_id))


def _dates(state: ModelState, name: str) -> list[tuple[WaitingLine, int | None]]:
    left, sku = _announced(state, name), state.skus[name]
    return [
        (each, _take(left, effective_policy(state, each.order.channel, sku), each.line))
        for each in waiting_lines(state, name)
    ]


def _announced(state: ModelState, name: str) -> list[_ToCome]:
    announced = [
        _ToCome(each.eta, id_, warehouse, each.incoming(name))
        for (warehouse, id_), each in state.announcements.items()
        if each.eta is not None and each.incoming(name)
    ]
    return sorted(announced)


def _take(left: list[_ToCome], policy: EffectivePolicy, line: ModelLine) -> int | None:
    """Take what a line waits for. -> the eta of the last announcement that it needs, None if they do not suffice"""
    units, eta = line.preordered + line.short, None
    for place, each in enumerate(left):
        taken = min(units, each.units) if _allows(policy, each.warehouse) else 0
        if taken:
            left[place] = each._replace(units=each.units - taken)
            units, eta = units - taken, each.eta
    return None if units else eta


def _allows(policy: EffectivePolicy, warehouse: str) -> bool:
    """Whether units there can fill an order: none come from the shelf to a channel that sells from pools alone."""
    return not policy.pool_only and (policy.warehouses is None or warehouse in policy.warehouses)
