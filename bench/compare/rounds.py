"""The rounds of every contender: two kills under the same orders, then its speed.

The kills come first, while the files of the stores are short: a file that is rewritten meanwhile cannot be cut.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from bench.compare.consistency import ConsistencyReport, check_consistency
from bench.compare.contenders import Contender
from bench.compare.load import HOT, ScheduledLoad, draw_orders, run_closed_loop, sku_names, stock_for
from bench.rates import LoadResult

CLIENTS = 64
# A flash sale besides ordinary orders.
HOT_SHARE = 0.2
UNITS_MAX = 3
SEED = 20261111

SPEED_SKUS = 1_000
# So many that nothing sells out: a rejection is cheaper than a reservation and would flatter.
SPEED_UNITS = 1_000_000

KILL_SKUS = 200
# A rate that every contender keeps up with, so that a kill costs each of them the same orders; half of the orders
# come before the kill, more than a lost tail holds.
KILL_ORDERS, KILL_RATE = 3_000, 400.0
# Less than the orders ask for: units that return to the stock by mistake are sold again and show in the count.
STOCK_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class KillResult:
    """The kill, the longest time (s) without any response from then on, and its consequences."""

    done: str
    silent_seconds: float
    verdict: ConsistencyReport


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Closed loops: 64 clients over 1,000 SKUs, 64 clients with the hot SKU, one client alone."""

    even: LoadResult
    hot: LoadResult
    lone: LoadResult


async def kill_under_load(contender: Contender, prefix: str, kill: Callable[[], Awaitable[str]]) -> KillResult:
    """Call `kill` when half of the orders have a response. Raises RuntimeError if the initial stock is wrong."""
    endless = draw_orders(prefix, KILL_SKUS, HOT_SHARE, UNITS_MAX, SEED)
    orders = list(itertools.islice(endless, KILL_ORDERS))
    stock = stock_for(orders, STOCK_SHARE)
    await contender.open(stock)
    if await contender.left(list(stock)) != stock:
        raise RuntimeError("the stock is not what was received")
    load = ScheduledLoad(orders, KILL_RATE)

    async def kill_at_half() -> tuple[str, float]:
        await load.half.wait()
        at = time.monotonic()
        return await kill(), at

    async with contender.clients(CLIENTS) as clients, asyncio.TaskGroup() as group:
        group.create_task(load.run(clients))
        killing = group.create_task(kill_at_half())
    done, at = killing.result()
    held = await contender.held([order.order_id for order in orders])
    left = await contender.left(list(stock))
    return KillResult(done, load.responses.silence(at), check_consistency(orders, stock, load.responses, held, left))


async def kill_store_under_load(contender: Contender) -> KillResult:
    """Kill the store, with the loss that such a kill may cause."""
    contender.watch_store()
    return await kill_under_load(contender, "store", contender.lose_store)


async def kill_process_under_load(contender: Contender) -> KillResult:
    """Kill the contender's own processes."""
    return await kill_under_load(contender, "process", contender.kill)


async def measure_speed(contender: Contender, seconds: float) -> SpeedResult:
    """Three closed loops of `seconds` each (a third of it for the lone client), after a short one to warm up."""
    names = [*sku_names("speed", SPEED_SKUS), f"speed-{HOT}"]
    await contender.open(dict.fromkeys(names, SPEED_UNITS))
    runs = itertools.count()

    async def loop(clients_count: int, hot_share: float, loop_seconds: float) -> LoadResult:
        # The same SKUs, but new orders in each loop.
        drawn = draw_orders("speed", SPEED_SKUS, hot_share, UNITS_MAX, SEED)
        run = next(runs)
        orders = (replace(order, order_id=f"{order.order_id}-{run}") for order in drawn)
        async with contender.clients(clients_count) as clients:
            return await run_closed_loop(clients, orders, loop_seconds)

    await loop(CLIENTS, HOT_SHARE, seconds / 5)
    return SpeedResult(
        even=await loop(CLIENTS, 0.0, seconds),
        hot=await loop(CLIENTS, HOT_SHARE, seconds),
        lone=await loop(1, 0.0, seconds / 3),
    )
