"""The model's pools: units that are set aside for a purpose (rules 28 and 37)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stocktide.tables.ledger.commands import Release, Reserve
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_policy import EffectivePolicy, drawable, in_pool, pool_name
from tests.ledger.model_queue import evaluate
from tests.ledger.model_state import ModelLine, ModelSku, ModelState, PoolTimes


def settle_pools(state: ModelState, names: Iterable[str]) -> bool:
    """Open and end the pools of SKUs that are due; whether there were any."""
    due = False
    for name in [name for name in names if name in state.skus]:
        sku = state.skus[name]
        changed = [pool for pool, times in sku.pool_times.items() if _is_due(times, state.now)]
        for pool in changed:
            times = sku.pool_times[pool]
            times.begins = 0
            if times.ends and state.now >= times.ends:
                sku.add(f"reserved#{pool}", -sku.count(f"reserved#{pool}"))
                times.ended = True
            elif not times.ends:
                del sku.pool_times[pool]
        if changed:
            evaluate(state, name)
            due = True
    return due


def _is_due(times: PoolTimes, now: int) -> bool:
    return not times.ended and now >= (times.begins or times.ends or now + 1)


def pool_refusal(sku: ModelSku | None, units: int, command: Reserve | Release) -> Outcome | None:
    """Rule 37, for one line."""
    if sku is None:
        return Outcome.UNKNOWN_SKU
    if isinstance(command, Release):
        return Outcome.MORE_THAN_RESERVED if units > sku.count(_pool_of(command)) else None
    # Short units are promised, from whichever warehouse.
    most = min(sku.free(command.warehouse), sku.available()) if sku.short() else sku.free(command.warehouse)
    return Outcome.MORE_THAN_AVAILABLE if units > most else None


def set_aside(state: ModelState, sku: ModelSku, units: int, command: Reserve | Release) -> None:
    """Move units between the shelf and a pool."""
    sku.add(_pool_of(command), units if isinstance(command, Reserve) else -units)
    if isinstance(command, Release):
        return
    pool, begins, ends = f"{command.purpose}@{command.warehouse}", command.from_at, command.until_at
    if begins is None and ends is None:
        if pool in sku.pool_times and sku.pool_times[pool].ended:
            del sku.pool_times[pool]
        return
    sku.pool_times[pool] = PoolTimes(begins if begins and begins > state.now else 0, ends or 0)
    if sku.pool_times[pool] == PoolTimes(0, 0):
        del sku.pool_times[pool]


def _pool_of(command: Reserve | Release) -> str:
    return pool_name(command.purpose, command.warehouse)


def pool_warehouse(pool: str) -> str:
    """The warehouse of `vip@SH1`."""
    return pool.partition("@")[2]


def pool_draws(sku: ModelSku, policy: EffectivePolicy, purposes: Sequence[str], units: int) -> dict[str, int]:
    """Rule 28: what a line takes from pools, by pool; without `split` from one warehouse."""
    drawn: dict[str, int] = {}
    places = drawable(sku, policy, purposes)
    for where in places if policy.split else list(places)[:1]:
        here = min(units, places[where])
        units -= here
        for purpose in purposes:
            taken = min(here, in_pool(sku, purpose, where))
            here -= taken
            if taken:
                drawn[f"{purpose}@{where}"] = taken
    return drawn


def give_back(sku: ModelSku, line: ModelLine) -> None:
    """Return a line's units to the pools that they came from."""
    for pool, units in line.pools.items():
        put_back(sku, pool, units)


def put_back(sku: ModelSku, pool: str, units: int) -> None:
    """Return units to a pool; those of an ended one go to the shelf."""
    if pool not in sku.pool_times or not sku.pool_times[pool].ended:
        sku.add(f"reserved#{pool}", units)


def ship_from_pools(line: ModelLine, warehouse: str, units: int) -> None:
    """Units leave a warehouse: those from pools first."""
    for pool in sorted(line.pools):
        if pool_warehouse(pool) == warehouse:
            gone = min(units, line.pools[pool])
            units -= gone
            line.pools[pool] -= gone
    line.pools = {pool: left for pool, left in line.pools.items() if left}
