"""The model's queue: orders that wait for units of a SKU, and how a rise fills them (rules 15, 16 and 49).

Unlike the ledger, the model fills every waiting order at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.ledger import model_policy, model_reroute
from tests.ledger.model_policy import EffectivePolicy, available, effective_policy, sources
from tests.ledger.model_state import ModelLine, ModelOrder, ModelSku, ModelState

# How often an order is passed over by others that can be filled whole (lua/includes/complete_first.lua).
PASSED_OVER_MAX = 8


class WaitingLine(NamedTuple):
    """A line that waits, by its place: short units first, then VIP, each oldest first."""

    rank: int
    number: int
    order: ModelOrder
    line: ModelLine


def evaluate(
    state: ModelState, name: str, waived: str | None = None, channels: Iterable[str] | None = None, fills: bool = True
) -> None:
    """Follow a change of a SKU: a rise, another policy or a warehouse that fell below zero moves held units; the first
    two, and a move, fill waiting orders; then channels change sides."""
    sku = state.skus[name]
    is_rise = sku.has_risen() or waived is not None
    has_moved = fills and (is_rise or sku.has_fallen_short()) and model_reroute.reroute(state, name)
    if fills and (is_rise or has_moved):
        fill(state, name)
    sku.note_free()
    model_policy.evaluate(state, sku, waived, channels)


def go_on(state: ModelState, name: str) -> None:
    """Follow changes that waited until added units were held."""
    if model_reroute.reroute(state, name) or next_line(state, name) is not None:
        fill(state, name)
        evaluate(state, name)


def fill(state: ModelState, name: str) -> None:
    """Give units to waiting lines, in their order, until none can take any."""
    sku = state.skus[name]
    while (first := line_to_fill(state, name)) is not None:
        order, line = first.order, first.line
        policy = effective_policy(state, order.channel, sku)
        wanted = line.short or line.preordered
        drawn = draw_up_to(sku, policy, min(wanted, units_for(sku, policy, bool(line.short))))
        hold_filled(sku, order, line, drawn)
        order.sequence += 1
    sku.note_free()


def hold_filled(sku: ModelSku, order: ModelOrder, line: ModelLine, drawn: dict[str, int]) -> None:
    """Hold units by warehouse for a line that waits for as many, short units first."""
    kind = "committed" if order.state == "paid" else "locked"
    for warehouse, units in drawn.items():
        sku.add(f"{kind}@{warehouse}", units)
        line.warehouses[warehouse] = line.warehouses.get(warehouse, 0) + units
    given = sum(drawn.values())
    short = min(given, line.short)
    line.short -= short
    line.preordered -= given - short
    sku.add(f"short@{order.channel}", -short)
    sku.add(f"preordered@{order.channel}", short - given)
    if not line.waiting:
        order.passed_over.pop(line.sku, None)
    if not line.preordered:
        line.state = "committed" if order.state == "paid" else "reserved"


def next_line(state: ModelState, name: str) -> WaitingLine | None:
    """The first waiting line that can take a unit."""
    return next(iter(fillable_lines(state, name)), None)


def fillable_lines(state: ModelState, name: str) -> list[WaitingLine]:
    """The waiting lines that can take a unit, in their order."""
    sku = state.skus[name]
    return [
        each
        for each in waiting_lines(state, name)
        if not has_ended(state, each.order) and units_of(state, sku, each.order, each.line) > 0
    ]


def has_ended(state: ModelState, order: ModelOrder) -> bool:
    """Whether the time of an unpaid order is over, whether or not the expiry step has run."""
    return order.state == "reserved" and order.expires_at is not None and state.now >= order.expires_at


def waiting_lines(state: ModelState, name: str) -> list[WaitingLine]:
    """The lines that wait for a SKU and are not held back, in the order of its queue."""
    waiting = [
        WaitingLine(0 if line.short else 1 if order.priority == "vip" else 2, order.queued, order, line)
        for order in state.orders.values()
        for line in order.lines
        if line.sku == name and line.waiting and name not in order.held_back
    ]
    return sorted(waiting, key=lambda each: (each.rank, each.number))


def line_to_fill(state: ModelState, name: str) -> WaitingLine | None:
    """The next line that gets units: the first one, or one that can be filled whole where the SKU's policy says so and
    the first one was not passed over too often."""
    sku, lines = state.skus[name], fillable_lines(state, name)
    if not lines or sku.policies.get("*", {}).get("fill") != "complete_first":
        return lines[0] if lines else None
    first, *_ = lines
    passed = first.order.passed_over.get(name, 0)
    if first.line.short or passed == PASSED_OVER_MAX or _is_whole(state, sku, first):
        return first
    for other in lines:
        if _is_whole(state, sku, other):
            first.order.passed_over[name] = passed + 1
            return other
    return first


def _is_whole(state: ModelState, sku: ModelSku, each: WaitingLine) -> bool:
    return not each.line.short and each.line.preordered <= units_of(state, sku, each.order, each.line)


def units_of(state: ModelState, sku: ModelSku, order: ModelOrder, line: ModelLine) -> int:
    """Units that a waiting line may take now."""
    return units_for(sku, effective_policy(state, order.channel, sku), bool(line.short))


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
