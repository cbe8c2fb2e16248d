"""Orders as clients send them: drawn from a seed, in a closed loop or on a schedule.

In: clients. Out: rates and latencies; or the response to each order while processes are killed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Protocol

from bench.cpu import CpuMeter
from bench.orders import sku_name

# The deadline of a request; Stocktide answers 503 earlier.
RESPONSE_SECONDS_MAX = 6.0
# Start-up and the last half-empty chunks are left out of a rate.
FROM_SHARE, TO_SHARE = 0.1, 0.95
POLL_SECONDS = 0.02
COUNT_SECONDS_MAX = 180.0
# A schedule that other work shares is kept in slices of this length; shorter ones cost more CPU.
SLICE_SECONDS = 0.02
# The end of the hot SKU's name.
HOT = "HOT"
# The pause of a client before it repeats an unanswered order.
RETRY_SECONDS = 0.1
# The slowest recovery is that of a killed plain Faust agent: its group waits a minute for the dead member.
PATIENCE_SECONDS = 150.0

# Sends one request; whether it was accepted.
SendRequest = Callable[[], Awaitable[bool]]


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
    channel: str = "shop"


class ReserveClient(Protocol):
    """A client with one order at a time."""

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order once. Never raises for an outage: that is `ReserveOutcome.NONE`."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Accepted requests a second and their latencies; `other` counts the requests that were not accepted; `cpu_us` is
    the CPU time per accepted request of the processes that were asked for, by name."""

    rate: float
    p50_ms: float
    p99_ms: float
    other: int
    cpu_us: dict[str, float] = field(default_factory=dict)


async def run_load(requests: Sequence[SendRequest], seconds: float, rate: float = 0.0) -> LoadResult:
    """Run `requests` concurrently, each again and again.

    `rate` 0 is a closed loop of `seconds`. Otherwise `rate` requests a second are scheduled for `seconds`, all of them
    are sent, and latencies count from the scheduled time. Raises RuntimeError if none was accepted.
    """
    latencies: list[float] = []
    other = 0
    start = time.perf_counter()
    schedule = deque(start + number / rate for number in range(round(rate * seconds))) if rate else None

    async def drive(request: SendRequest) -> None:
        nonlocal other
        while schedule if schedule is not None else time.perf_counter() - start < seconds:
            due = schedule.popleft() if schedule else time.perf_counter()
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            if await request():
                latencies.append(time.perf_counter() - due)
            else:
                other += 1

    await asyncio.gather(*map(drive, requests))
    took = time.perf_counter() - start
    if not latencies:
        raise RuntimeError(f"no order was held in {took:.0f} s; {other} requests had another outcome")
    return LoadResult(
        len(latencies) / took, percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000, other
    )


async def send_orders(
    clients: Sequence[ReserveClient], orders: Iterator[BenchOrder], seconds: float, rate: float = 0.0
) -> LoadResult:
    """`run_load` of orders: every client sends the next one after each response."""

    async def reserve(client: ReserveClient) -> bool:
        return await client.reserve(next(orders)) is ReserveOutcome.HELD

    return await run_load([partial(reserve, client) for client in clients], seconds, rate)


async def pace(rate: float, continues: Callable[[float], bool]) -> AsyncIterator[None]:
    """Yield `rate` times a second while `continues(seconds)` holds."""
    began, sent = time.perf_counter(), 0
    while continues(elapsed := time.perf_counter() - began):
        for _ in range(int(rate * elapsed) - sent):
            sent += 1
            yield
        await asyncio.sleep(SLICE_SECONDS)


async def measure_rate(count: Callable[[], Awaitable[int]], total: int, cpu: CpuMeter | None = None) -> float:
    """Events a second between 10 % and 95 % of `total`; `cpu` measures the same window. Raises TimeoutError if the
    count does not get there."""
    started = time.perf_counter()
    first: tuple[float, int] | None = None
    while True:
        done, now = await count(), time.perf_counter()
        if first is None and done >= FROM_SHARE * total:
            first = now, done
            if cpu is not None:
                cpu.begin()
        if first is not None and done >= TO_SHARE * total:
            if done == first[1]:
                raise RuntimeError(f"{total} events were too few to measure a rate")
            if cpu is not None:
                cpu.end(done - first[1])
            return (done - first[1]) / (now - first[0])
        if now - started > COUNT_SECONDS_MAX:
            raise TimeoutError(f"{done} of {total} events after {COUNT_SECONDS_MAX:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def percentile(values: list[float], share: float) -> float:
    """The value at `share` (0 to 1) of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def silence(responded_at: Iterable[float], since: float) -> tuple[float, float]:
    """Seconds from `since` to the next response, and the longest pause between two responses after that."""
    later = [since, *(at for at in sorted(responded_at) if at > since)]
    pauses = [after - before for before, after in itertools.pairwise(later)]
    return (pauses[0] if pauses else math.inf), max(pauses[1:], default=0.0)


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


class ScheduledLoad:
    """A list of orders at `rate` a second (less if the clients are blocked); each is repeated until it is answered.

    `answers`: the responses by order id; `responded_at`: the time of each (s, monotonic clock). `half` is set when half
    of the orders have a response.
    """

    def __init__(self, orders: Sequence[BenchOrder], rate: float, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._orders = orders
        self._rate = rate
        self._patience_seconds = patience_seconds
        self.answers: dict[str, ReserveOutcome] = {}
        self.responded_at: list[float] = []
        self.half = asyncio.Event()

    async def run(self, clients: Sequence[ReserveClient]) -> None:
        """Send all orders; returns when each has a response or timed out."""
        pending = iter(self._orders)

        async def reserve(client: ReserveClient) -> bool:
            return await self._reserve(client, next(pending))

        await run_load([partial(reserve, client) for client in clients], len(self._orders) / self._rate, self._rate)
        self.half.set()  # also if fewer orders have a response

    async def _reserve(self, client: ReserveClient, order: BenchOrder) -> bool:
        deadline = time.monotonic() + self._patience_seconds
        answer = ReserveOutcome.NONE
        while answer is ReserveOutcome.NONE and time.monotonic() < deadline:
            answer = await client.reserve(order)
            if answer is ReserveOutcome.NONE:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.answers[order.order_id] = answer
                self.responded_at.append(time.monotonic())
        if len(self.answers) >= len(self._orders) / 2:
            self.half.set()
        return answer is not ReserveOutcome.NONE
