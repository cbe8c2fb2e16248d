"""The rounds of every contender: two kills under the same orders, then its speed.

The kills come first, while the files of the stores are short: a file that is rewritten meanwhile cannot be cut. The
oracle counts units from outside and is the same for every contender: the responses of the clients against the received
stock and the store afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.compare.contenders import Contender
from bench.load import (
    HOT,
    BenchOrder,
    LoadResult,
    ReserveOutcome,
    ScheduledLoad,
    draw_orders,
    send_orders,
    silence,
    sku_names,
)

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
class ConsistencyReport:
    """Units and orders after a kill.

    `oversold_units`: held for clients beyond the received stock, over all SKUs. `lost_units`, `lost_orders`: answered
    `held`, but not held in the store. `leaked_units`: missing from the stock without a response that they are held.
    `unanswered`: orders without a response; if there are any, the leaked units mean nothing.
    """

    received_units: int
    held_orders: int
    held_units: int
    refused_orders: int
    unanswered: int
    oversold_units: int
    lost_orders: int
    lost_units: int
    leaked_units: int

    @property
    def broken(self) -> bool:
        """Whether a response does not stand, or stock is missing."""
        return bool(self.oversold_units or self.lost_orders or self.leaked_units or self.unanswered)


def check_consistency(
    orders: Sequence[BenchOrder],
    received: Mapping[str, int],
    answers: Mapping[str, ReserveOutcome],
    in_store: set[str],
    left: Mapping[str, int],
) -> ConsistencyReport:
    """`received`, `left`: units by SKU, before and after; `in_store`: the ids of the orders held in the store."""
    held = {order_id for order_id, answer in answers.items() if answer is ReserveOutcome.HELD}
    refused = sum(answer is ReserveOutcome.REFUSED for answer in answers.values())
    sold, stock = units_by_sku(orders, held), Counter(received)
    # A Counter's difference has no negative counts: a SKU that leaks does not make up for one that is oversold.
    return ConsistencyReport(
        received_units=stock.total(),
        held_orders=len(held),
        held_units=sold.total(),
        refused_orders=refused,
        unanswered=len(orders) - len(held) - refused,
        oversold_units=(sold - stock).total(),
        lost_orders=len(held - in_store),
        lost_units=units_by_sku(orders, held - in_store).total(),
        leaked_units=(stock - Counter(left) - sold).total(),
    )


def units_by_sku(orders: Sequence[BenchOrder], order_ids: set[str]) -> Counter[str]:
    """The units of those of `orders` that are in `order_ids`."""
    found: Counter[str] = Counter()
    for order in orders:
        if order.order_id in order_ids:
            found[order.sku] += order.units
    return found


def stock_for(orders: Sequence[BenchOrder], share: float) -> dict[str, int]:
    """Units of each SKU: `share` (0 to 1) of the ordered units, at least one."""
    ordered = units_by_sku(orders, {order.order_id for order in orders})
    return {sku: max(1, math.floor(share * units)) for sku, units in ordered.items()}


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
    await contender.stock.open(stock)
    if await contender.stock.left(list(stock)) != stock:
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
    held = await contender.stock.held([order.order_id for order in orders])
    left = await contender.stock.left(list(stock))
    # The first response after a kill may have been in flight, so the pause before it does not count alone.
    silent = max(silence(load.responded_at, at))
    return KillResult(done, silent, check_consistency(orders, stock, load.answers, held, left))


async def measure_speed(contender: Contender, seconds: float) -> SpeedResult:
    """Three closed loops of `seconds` each (a third of it for the lone client), after a short one to warm up."""
    names = [*sku_names("speed", SPEED_SKUS), f"speed-{HOT}"]
    await contender.stock.open(dict.fromkeys(names, SPEED_UNITS))
    runs = itertools.count()

    async def loop(clients_count: int, hot_share: float, loop_seconds: float) -> LoadResult:
        # The same SKUs, but new orders in each loop.
        drawn = draw_orders("speed", SPEED_SKUS, hot_share, UNITS_MAX, SEED)
        run = next(runs)
        orders = (replace(order, order_id=f"{order.order_id}-{run}") for order in drawn)
        async with contender.clients(clients_count) as clients:
            return await send_orders(clients, orders, loop_seconds)

    await loop(CLIENTS, HOT_SHARE, seconds / 5)
    return SpeedResult(
        even=await loop(CLIENTS, 0.0, seconds),
        hot=await loop(CLIENTS, HOT_SHARE, seconds),
        lone=await loop(1, 0.0, seconds / 3),
    )
