"""What every contender goes through: two deaths under the same orders, then its speed.

The deaths come first, while the stores' files are short: a file that is rewritten meanwhile cannot be cut.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from bench.compare.consistency import ConsistencyReport, check_consistency
from bench.compare.contenders import Contender
from bench.compare.load import HOT, ClosedLoopResult, ScheduledLoad, draw_orders, run_closed_loop, sku_names, stock_for

CALLERS = 64
# A flash sale beside everyday trade.
HOT_SHARE = 0.2
UNITS_MAX = 3
SEED = 20261111

SPEED_SKUS = 1_000
# So much that nothing sells out while the speed is measured: refusals are cheaper and would flatter.
SPEED_UNITS = 1_000_000

DEATH_SKUS = 200
# At a rate that every way keeps up with, so that a death costs each of them the same orders; half of them come before
# it, more than a lost tail holds.
DEATH_ORDERS, DEATH_RATE = 3_000, 400.0
# Less than is asked for: what comes back to the stock by mistake is sold again, and the count shows it.
STOCK_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class KillResult:
    """What was done, what came of it, and how long (s) from the kill on no caller was told anything, at the longest."""

    done: str
    silent_seconds: float
    verdict: ConsistencyReport


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Closed loops: 64 callers over 1,000 SKUs, 64 callers with the hot SKU, one caller alone."""

    even: ClosedLoopResult
    hot: ClosedLoopResult
    lone: ClosedLoopResult


async def kill_under_load(contender: Contender, prefix: str, inflict: Callable[[], Awaitable[str]]) -> KillResult:
    """`inflict` once half of the orders are answered; the callers insist. Raises RuntimeError where the stock was not
    there as it should before any of it."""
    endless = draw_orders(prefix, DEATH_SKUS, HOT_SHARE, UNITS_MAX, SEED)
    orders = list(itertools.islice(endless, DEATH_ORDERS))
    stock = stock_for(orders, STOCK_SHARE)
    await contender.open(stock)
    if await contender.left(list(stock)) != stock:
        raise RuntimeError("the stock is not what was received")
    demand = ScheduledLoad(orders, DEATH_RATE)

    async def strike() -> tuple[str, float]:
        await demand.half.wait()
        at = time.monotonic()
        return await inflict(), at

    async with contender.callers(CALLERS) as callers, asyncio.TaskGroup() as together:
        together.create_task(demand.run(callers))
        striking = together.create_task(strike())
    done, at = striking.result()
    held = await contender.held([order.order_id for order in orders])
    left = await contender.left(list(stock))
    return KillResult(done, demand.told.silence(at), check_consistency(orders, stock, demand.told, held, left))


async def kill_store_under_load(contender: Contender) -> KillResult:
    """The store dies, with what such a death may cost."""
    contender.watch_store()
    return await kill_under_load(contender, "store", contender.lose_store)


async def kill_process_under_load(contender: Contender) -> KillResult:
    """The contender's own processes die."""
    return await kill_under_load(contender, "process", contender.kill)


async def measure_speed(contender: Contender, seconds: float) -> SpeedResult:
    """Three closed loops of `seconds` each (a third of it for the lone caller), after a short one to warm up."""
    names = [*sku_names("speed", SPEED_SKUS), f"speed-{HOT}"]
    await contender.open(dict.fromkeys(names, SPEED_UNITS))
    runs = itertools.count()

    async def loop(callers_count: int, hot_share: float, loop_seconds: float) -> ClosedLoopResult:
        # The SKUs stay, the orders are new in each loop.
        drawn = draw_orders("speed", SPEED_SKUS, hot_share, UNITS_MAX, SEED)
        run = next(runs)
        orders = (replace(order, order_id=f"{order.order_id}-{run}") for order in drawn)
        async with contender.callers(callers_count) as callers:
            return await run_closed_loop(callers, orders, loop_seconds)

    await loop(CALLERS, HOT_SHARE, seconds / 5)
    return SpeedResult(
        even=await loop(CALLERS, 0.0, seconds),
        hot=await loop(CALLERS, HOT_SHARE, seconds),
        lone=await loop(1, 0.0, seconds / 3),
    )
