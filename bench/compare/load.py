"""The same orders for every way: drawn from a seed, asked by callers who take each answer as it comes.

In: callers. Out: rates and latencies of a closed loop; or what each order was told while things were killed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from bench.rates import percentile

# The end of the hot SKU's name.
HOT = "HOT"
# A shopper who gets no answer asks again after this.
AGAIN_SECONDS = 0.1
# One who is not answered within this never will be. The slowest to come back is a plain Faust agent that was killed:
# its group waits a minute for the dead member.
PATIENCE_SECONDS = 150.0


class ReserveOutcome(StrEnum):
    """What a caller is told. `NONE`: nothing that it could rely on; it asks again with the same order."""

    HELD = "held"
    REFUSED = "refused"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class BenchOrder:
    """One order of one line."""

    order_id: str
    sku: str
    units: int


class ReserveClient(Protocol):
    """One shopper's connection; one order is under way at a time."""

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Ask once. Never raises for an outage: that is `ReserveOutcome.NONE`."""


@dataclass(frozen=True, slots=True)
class ClosedLoopResult:
    """A closed loop: units are orders held a second and ms; `other` counts answers that were not `held`."""

    rate: float
    p50_ms: float
    p99_ms: float
    other: int


@dataclass(slots=True)
class ResponseLog:
    """What callers were told, by order id, and when anybody was told anything (s, by the monotonic clock)."""

    answers: dict[str, ReserveOutcome] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)

    def silence(self, since: float) -> float:
        """Seconds of the longest pause between two answers from `since` on; infinite where none came any more. The
        first answer after a kill may have been under way, so the pause up to it tells nothing."""
        later = [since, *sorted(at for at in self.at if at >= since)]
        return max((after - before for before, after in itertools.pairwise(later)), default=math.inf)


def sku_names(prefix: str, count: int) -> list[str]:
    """The SKUs beside the hot one."""
    return [f"{prefix}-S{number}" for number in range(count)]


def draw_orders(prefix: str, skus: int, hot_share: float, units_max: int, seed: int) -> Iterator[BenchOrder]:
    """Orders without end; `hot_share` (0 to 1) of them for the hot SKU, the rest spread evenly."""
    draw = random.Random(seed)
    names, hot = sku_names(prefix, skus), f"{prefix}-{HOT}"
    for number in itertools.count():
        sku = hot if draw.random() < hot_share else draw.choice(names)
        yield BenchOrder(f"{prefix}-{number}", sku, draw.randint(1, units_max))


def stock_for(orders: Sequence[BenchOrder], share: float) -> dict[str, int]:
    """Units of each SKU: `share` (0 to 1) of what the orders ask for, at least one."""
    asked: Counter[str] = Counter()
    for order in orders:
        asked[order.sku] += order.units
    return {sku: max(1, math.floor(share * units)) for sku, units in asked.items()}


async def run_closed_loop(
    callers: Sequence[ReserveClient], orders: Iterator[BenchOrder], seconds: float
) -> ClosedLoopResult:
    """Every caller asks again as soon as it is answered, for `seconds`."""
    latencies: list[float] = []
    other = 0
    start = time.perf_counter()

    async def drive(caller: ReserveClient) -> None:
        nonlocal other
        while (began := time.perf_counter()) - start < seconds:
            if await caller.reserve(next(orders)) is ReserveOutcome.HELD:
                latencies.append(time.perf_counter() - began)
            else:
                other += 1

    await asyncio.gather(*map(drive, callers))
    took = time.perf_counter() - start
    if not latencies:
        raise RuntimeError(f"no order was held in {took:.0f} s, {other} were answered otherwise or not at all")
    return ClosedLoopResult(
        len(latencies) / took, percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000, other
    )


class ScheduledLoad:
    """A list of orders at `rate` a second (less where the callers are not answered in time), each asked until it is
    answered. `half`: set once half of them are."""

    def __init__(self, orders: Sequence[BenchOrder], rate: float, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._orders = orders
        self._rate = rate
        self._patience_seconds = patience_seconds
        self.told = ResponseLog()
        self.half = asyncio.Event()

    async def run(self, callers: Sequence[ReserveClient]) -> None:
        """Until every order is answered, or given up."""
        start = time.monotonic()
        waiting = iter(enumerate(self._orders))

        async def drive(caller: ReserveClient) -> None:
            for number, order in waiting:
                if (wait := start + number / self._rate - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await self._insist(caller, order)

        await asyncio.gather(*map(drive, callers))
        self.half.set()  # also where fewer were answered

    async def _insist(self, caller: ReserveClient, order: BenchOrder) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while time.monotonic() < deadline:
            answer = await caller.reserve(order)
            if answer is not ReserveOutcome.NONE:
                self.told.answers[order.order_id] = answer
                self.told.at.append(time.monotonic())
                break
            await asyncio.sleep(AGAIN_SECONDS)
        if len(self.told.answers) >= len(self._orders) / 2:
            self.half.set()


def units_by_sku(orders: Sequence[BenchOrder], order_ids: set[str]) -> Mapping[str, int]:
    """The units of those of `orders` that are in `order_ids`."""
    found: Counter[str] = Counter()
    for order in orders:
        if order.order_id in order_ids:
            found[order.sku] += order.units
    return found
