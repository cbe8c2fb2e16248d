"""How the model decides a line: from pools, from the shelf, or by waiting (rules 7, 11 to 13, 28 and 49)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stocktide.tables.ledger.commands import Place
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_policy import (
    EffectivePolicy,
    available,
    current_offer,
    effective_policy,
    remaining_preorders,
    shelf_offer,
    sources,
)
from tests.ledger.model_pools import pool_draws, pool_warehouse
from tests.ledger.model_queue import draw_up_to
from tests.ledger.model_state import ModelLine, ModelSku, ModelState


@dataclass
class DecidedLine:
    """Where a line's units come from: warehouses, those from pools included; and those that wait."""

    warehouses: dict[str, int] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    preordered: int = 0
    short: int = 0

    @classmethod
    def of(cls, shelf: dict[str, int], pools: dict[str, int], preordered: int = 0, short: int = 0) -> DecidedLine:
        """The units from the shelf and from pools, by warehouse."""
        warehouses = Counter(shelf)
        for pool, units in pools.items():
            warehouses[pool_warehouse(pool)] += units
        return cls(dict(warehouses), pools, preordered, short)


def decide_sold(state: ModelState, command: Place, line: ModelLine) -> DecidedLine:
    """Rule 49: what is there, from pools first; the rest is preordered if the policy allows it, else short."""
    sku = state.skus.setdefault(line.sku, ModelSku())
    policy = effective_policy(state, command.channel, sku)
    pools = pool_draws(sku, policy, _purposes(command, policy), line.quantity)
    rest = line.quantity - sum(pools.values())
    drawn = _draw_sold(sku, policy, rest, pools)
    missing = rest - sum(drawn.values())
    if missing and policy.below == "preorder" and policy.preorder_cap and command.allow_preorder:
        if missing > remaining_preorders(sku, command.channel, policy):
            state.alerts.append(("preorder_cap_exceeded", line.sku))
        return DecidedLine.of(drawn, pools, preordered=missing)
    if missing:
        state.alerts.append(("sold_short", line.sku))
    return DecidedLine.of(drawn, pools, short=missing)


def _draw_sold(sku: ModelSku, policy: EffectivePolicy, rest: int, pools: dict[str, int]) -> dict[str, int]:
    """What a sold line takes from the shelf: without `split` from the warehouse of its pools."""
    # No short unit can have what is free: a rise would have filled it.
    most = 0 if policy.pool_only else min(rest, available(sku, policy) + sku.short())
    if most <= 0:
        return {}
    if not pools or policy.split:
        return draw_up_to(sku, policy, most)
    (where,) = {pool_warehouse(pool) for pool in pools}
    return {where: min(most, sku.free(where))} if sku.free(where) > 0 else {}


def _purposes(command: Place, policy: EffectivePolicy) -> tuple[str, ...]:
    """The pools from which an order draws: its own, then those of its channel."""
    named = (command.purpose,) if command.purpose and "@" not in command.purpose else ()
    return tuple(dict.fromkeys((*named, *policy.purposes)))


def decide_line(state: ModelState, command: Place, line: ModelLine) -> DecidedLine | Outcome:
    """A line's units, or the reason of its refusal. Rule 28: from pools first, the rest under the channel's rules."""
    sku = state.skus.get(line.sku)
    if sku is None:
        return Outcome.UNKNOWN_SKU
    policy = effective_policy(state, command.channel, sku)
    pools = pool_draws(sku, policy, _purposes(command, policy), line.quantity)
    rest = line.quantity - sum(pools.values())
    shelf = _decide_rest(state, command, sku, policy, rest) if rest else {}
    is_from_shelf = isinstance(shelf, dict) and (shelf or not rest)
    if pools and not is_from_shelf and current_offer(state, command.channel, sku).mode == "in_stock":
        return Outcome.INSUFFICIENT_STOCK  # never preordered where the channel is in stock by its own pools
    if isinstance(shelf, Outcome):
        return shelf
    if pools and shelf and not policy.split:
        # A line that may not be split is of one warehouse, or whole from the shelf.
        (where,) = {pool_warehouse(pool) for pool in pools}
        shelf = {where: rest}
        if sku.free(where) < rest:
            pools, rest = {}, line.quantity
            whole = _decide_rest(state, command, sku, policy, rest)
            if isinstance(whole, Outcome):
                return whole
            shelf = whole
    return DecidedLine.of(shelf, pools, preordered=rest if not shelf else 0)


def _decide_rest(
    state: ModelState, command: Place, sku: ModelSku, policy: EffectivePolicy, units: int
) -> dict[str, int] | Outcome:
    """The warehouses of units from the shelf, `{}` for a preorder, or the reason of the refusal."""
    if command.force:
        drawn = draw(sku, policy, units) if not policy.pool_only and available(sku, policy) >= units else {}
        return drawn or Outcome.INSUFFICIENT_STOCK
    if command.priority == "vip" and not policy.pool_only and available(sku, policy) >= units:
        drawn = draw(sku, policy, units)
        if drawn:
            return drawn
    mode, quantity, remaining = shelf_offer(state, command.channel, sku)
    if mode == "in_stock":
        return draw(sku, policy, units) if units <= quantity else Outcome.INSUFFICIENT_STOCK
    if mode == "suspended":
        return Outcome.CHANNEL_SUSPENDED
    if policy.below != "preorder" or policy.preorder_cap == 0 or not command.allow_preorder:
        return Outcome.INSUFFICIENT_STOCK
    return {} if units <= remaining else Outcome.PREORDER_CAP_REACHED


def draw(sku: ModelSku, policy: EffectivePolicy, units: int) -> dict[str, int]:
    """Most free stock first: one warehouse that fills the line, else (`split`) over the positive ones."""
    # sorted() is stable: of two with equal stock, the one that appeared first.
    names = sorted((name for name in sources(sku, policy) if sku.free(name) > 0), key=lambda name: -sku.free(name))
    if names and sku.free(names[0]) >= units:
        return {names[0]: units}
    drawn: dict[str, int] = {}
    if policy.split:
        for name in names:
            taken = min(units, sku.free(name))
            units -= taken
            if taken:
                drawn[name] = taken
    return drawn if units == 0 else {}
