"""The model's queue: orders that wait for units of a SKU, and how a rise fills them (rules 15, 16 and 49).

Unlike the ledger, the model fills every waiting order at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.ledger import model_policy
from tests.ledger.model_policy import EffectivePolicy, available, effective_policy, sources
from tests.ledger.model_state import ModelLine, ModelOrder, ModelSku, ModelState


class WaitingLine(NamedTuple):
    """A line that waits, by its place: short units first, then VIP, each oldest first."""

    rank: int
    number: int
    order: ModelOrder
    line: ModelLine


def evaluate(
    state: ModelState, name: str, waived: str | None = None, channels: Iterable[str] | None = None, fills: bool = True
) -> None:
    """Follow a change of a SKU: a rise or another policy fills waiting orders, then channels change sides."""
    sku = state.skus[name]
    has_risen = sku.has_risen()
    if fills and (has_risen or waived is not None):
        fill(state, name)
    sku.note_free()
    model_policy.evaluate(state, sku, waived, channels)


def fill(state: ModelState, name: str) -> None:
    """Give units to waiting lines, in their order, until none can take any."""
    sku = state.skus[name]
    while (first := next_line(state, name)) is not None:
        order, line = first.order, first.line
        policy = effective_policy(state, order.channel, sku)
        wanted = line.short or line.preordered
        drawn = draw_up_to(sku, policy, min(wanted, units_for(sku, policy, bool(line.short))))
        kind = "committed" if order.state == "paid" else "locked"
        for warehouse, units in drawn.items():
            sku.add(f"{kind}@{warehouse}", units)
            line.warehouses[warehouse] = line.warehouses.get(warehouse, 0) + units
        given = sum(drawn.values())
        if line.short:
            line.short -= given
            sku.add(f"short@{order.channel}", -given)
        else:
            line.preordered -= given
            sku.add(f"preordered@{order.channel}", -given)
        if not line.short and not line.preordered:
            line.state = "committed" if order.state == "paid" else "reserved"
        order.sequence += 1
    sku.note_free()


def next_line(state: ModelState, name: str) -> WaitingLine | None:
    """The first waiting line that can take a unit."""
    sku = state.skus[name]
    for waiting in waiting_lines(state, name):
        order = waiting.order
        if order.state == "reserved" and order.expires_at is not None and state.now >= order.expires_at:
            continue  # its time is over, whether or not the expiry step has run
        if units_for(sku, effective_policy(state, order.channel, sku), bool(waiting.line.short)) > 0:
            return waiting
    return None


def waiting_lines(state: ModelState, name: str) -> list[WaitingLine]:
    """The lines that wait for a SKU, in the order of its queue."""
    waiting = [
        WaitingLine(0 if line.short else 1 if order.priority == "vip" else 2, order.queued, order, line)
        for order in state.orders.values()
        for line in order.lines
        if line.sku == name and (line.short or line.preordered)
    ]
    return sorted(waiting, key=lambda each: (each.rank, each.number))


def units_for(sku: ModelSku, policy: EffectivePolicy, is_short: bool) -> int:
    """Rule 16: preorders take what is above the safety threshold; rule 49: short units take all that is there.
    Those of a channel that sells from pools alone take nothing from the shelf."""
    if policy.pool_only or not any(sku.free(name) > 0 for name in sources(sku, policy)):
        return 0
    if is_short:
        return available(sku, policy) + sku.short()
    return available(sku, policy) - policy.safety_threshold


def draw_up_to(sku: ModelSku, policy: EffectivePolicy, units: int) -> dict[str, int]:
    """As many of `units` as there are, most free first; from one warehouse without `split`."""
    names = sorted((name for name in sources(sku, policy) if sku.free(name) > 0), key=lambda name: -sku.free(name))
    drawn: dict[str, int] = {}
    for name in names if policy.split else names[:1]:
        taken = min(units, sku.free(name))
        units -= taken
        if taken > 0:
            drawn[name] = taken
    return drawn
