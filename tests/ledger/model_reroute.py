"""The model's moves of held units away from warehouses below zero (rule 36).

Unlike the ledger, the model moves all that can move at once.
"""

from __future__ import annotations

from tests.ledger.model_policy import EffectivePolicy, effective_policy, sources
from tests.ledger.model_state import ModelLine, ModelOrder, ModelSku, ModelState


def is_due(state: ModelState, name: str) -> bool:
    """Whether some policy lets held units of the SKU move, and some warehouse lacks units."""
    sku = state.skus[name]
    is_allowed = any(effective_policy(state, channel, sku).reroute for channel in state.channels)
    return is_allowed and any(sku.free(warehouse) < 0 for warehouse in sku.warehouses)


def reroute(state: ModelState, name: str) -> bool:
    """Move held units to warehouses that have free ones, VIP orders first, then the oldest; whether any moved."""
    sku, moved = state.skus[name], False
    for _, order in sorted(state.orders.items(), key=lambda entry: _rank(*entry)):
        policy = effective_policy(state, order.channel, sku)
        is_over = order.state == "reserved" and order.expires_at is not None and state.now >= order.expires_at
        if is_over or not policy.reroute:
            continue
        for line in [each for each in order.lines if each.sku == name]:
            short = [each for each in sku.warehouses if sku.free(each) < 0 and each in line.warehouses]
            froms = [each for each in short if _move_from(sku, order, line, policy, each)]
            for _ in froms:
                state.alerts.append(("rerouted", name))
            if froms:
                order.sequence += 1
                moved = True
    return moved


def _rank(order_id: str, order: ModelOrder) -> tuple[bool, int, str]:
    return order.priority != "vip", order.placed_at, order_id


def _move_from(sku: ModelSku, order: ModelOrder, line: ModelLine, policy: EffectivePolicy, warehouse: str) -> int:
    """Move units of a line: what is missing, or without `split` all that it holds there, to one warehouse."""
    pooled = sum(units for pool, units in line.pools.items() if pool.partition("@")[2] == warehouse)
    held, missing = line.warehouses[warehouse] - pooled, -sku.free(warehouse)
    if not policy.split and line.pools:
        return 0
    kind, moved = "committed" if order.state == "paid" else "locked", 0
    left = min(held, missing) if policy.split else held
    for place in sorted(sources(sku, policy), key=lambda each: -sku.free(each)):
        units = min(left - moved, max(0, sku.free(place)))
        if not policy.split and units < held:
            break
        if units:
            line.warehouses[place] = line.warehouses.get(place, 0) + units
            sku.add(f"{kind}@{place}", units)
            moved += units
    line.warehouses[warehouse] -= moved
    sku.add(f"{kind}@{warehouse}", -moved)
    if not line.warehouses[warehouse]:
        del line.warehouses[warehouse]
    return moved
