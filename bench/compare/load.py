"""The same orders for every contender: drawn from a seed, sent by clients.

In: clients. Out: rates and latencies of a closed loop; or the response to each order while processes are killed.
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
from functools import partial
from typing import Protocol

from bench.orders import sku_name
from bench.rates import LoadResult, run_load

# The end of the hot SKU's name.
HOT = "HOT"
# The pause of a client before it repeats an unanswered order.
RETRY_SECONDS = 0.1
# The slowest recovery is that of a killed plain Faust agent: its group waits a minute for the dead member.
PATIENCE_SECONDS = 150.0


class ReserveOutcome(StrEnum):
    """The response to an order. `NONE`: no reliable response; the client sends the same order again."""

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
    """A client with one order at a time."""

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order once. Never raises for an outage: that is `ReserveOutcome.NONE`."""


@dataclass(slots=True)
class ResponseLog:
    """The responses by order id, and the time of each response (s, monotonic clock)."""

    answers: dict[str, ReserveOutcome] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)

    def silence(self, since: float) -> float:
        """The longest pause (s) between two responses from `since` on; infinite without two of them. The first
        response after a kill may have been in flight, so the pause before it does not count alone."""
        later = [since, *sorted(at for at in self.at if at >= since)]
        return max((after - before for before, after in itertools.pairwise(later)), default=math.inf)


def sku_names(prefix: str, count: int) -> list[str]:
    """The SKUs besides the hot one."""
    return [f"{prefix}-{sku_name(number)}" for number in range(count)]


def draw_orders(prefix: str, skus: int, hot_share: float, units_max: int, seed: int) -> Iterator[BenchOrder]:
    """An endless stream of orders; `hot_share` (0 to 1) of them for the hot SKU, the others spread evenly."""
    draw = random.Random(seed)
    names, hot = sku_names(prefix, skus), f"{prefix}-{HOT}"
    for number in itertools.count():
        sku = hot if draw.random() < hot_share else draw.choice(names)
        yield BenchOrder(f"{prefix}-{number}", sku, draw.randint(1, units_max))


def stock_for(orders: Sequence[BenchOrder], share: float) -> dict[str, int]:
    """Units of each SKU: `share` (0 to 1) of the ordered units, at least one."""
    ordered = units_by_sku(orders, {order.order_id for order in orders})
    return {sku: max(1, math.floor(share * units)) for sku, units in ordered.items()}


def units_by_sku(orders: Sequence[BenchOrder], order_ids: set[str]) -> Mapping[str, int]:
    """The units of those of `orders` that are in `order_ids`."""
    found: Counter[str] = Counter()
    for order in orders:
        if order.order_id in order_ids:
            found[order.sku] += order.units
    return found


async def run_closed_loop(clients: Sequence[ReserveClient], orders: Iterator[BenchOrder], seconds: float) -> LoadResult:
    """Every client sends the next order after each response, for `seconds`."""

    async def reserve(client: ReserveClient) -> bool:
        return await client.reserve(next(orders)) is ReserveOutcome.HELD

    return await run_load([partial(reserve, client) for client in clients], seconds)


class ScheduledLoad:
    """A list of orders at `rate` a second (less if the clients are blocked); each is repeated until it is answered.

    `half` is set when half of the orders have a response.
    """

    def __init__(self, orders: Sequence[BenchOrder], rate: float, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._orders = orders
        self._rate = rate
        self._patience_seconds = patience_seconds
        self.responses = ResponseLog()
        self.half = asyncio.Event()

    async def run(self, clients: Sequence[ReserveClient]) -> None:
        """Send all orders; returns when each has a response or timed out."""
        start = time.monotonic()
        pending = iter(enumerate(self._orders))

        async def drive(client: ReserveClient) -> None:
            for number, order in pending:
                if (wait := start + number / self._rate - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await self._reserve(client, order)

        await asyncio.gather(*map(drive, clients))
        self.half.set()  # also if fewer orders have a response

    async def _reserve(self, client: ReserveClient, order: BenchOrder) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while time.monotonic() < deadline:
            answer = await client.reserve(order)
            if answer is not ReserveOutcome.NONE:
                self.responses.answers[order.order_id] = answer
                self.responses.at.append(time.monotonic())
                break
            await asyncio.sleep(RETRY_SECONDS)
        if len(self.responses.answers) >= len(self._orders) / 2:
            self.half.set()
