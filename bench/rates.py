"""Rates and latencies: of a counter in its steady middle, and of requests that a benchmark sends itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

# Start-up and the last half-empty chunks are left out of a rate.
FROM_SHARE, TO_SHARE = 0.1, 0.95
POLL_SECONDS = 0.02
SECONDS_MAX = 180.0

# Sends one request; whether it was accepted.
Request = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Accepted requests a second and their latencies; `other` counts the requests that were not accepted."""

    rate: float
    p50_ms: float
    p99_ms: float
    other: int


async def run_load(requests: Sequence[Request], seconds: float, rate: float = 0.0) -> LoadResult:
    """Run `requests` concurrently, each again and again, for `seconds`.

    `rate` 0 is a closed loop. Otherwise `rate` requests a second are sent on a schedule, and latencies count from the
    scheduled time. Raises RuntimeError if none was accepted.
    """
    latencies: list[float] = []
    other = 0
    start = time.perf_counter()
    schedule = deque(start + number / rate for number in range(int(rate * seconds))) if rate else None

    async def drive(request: Request) -> None:
        nonlocal other
        while (due := time.perf_counter()) - start < seconds:
            if schedule is not None:
                if not schedule:
                    return
                due = schedule.popleft()
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


async def measure_rate(count: Callable[[], Awaitable[int]], total: int) -> float:
    """Events a second between 10 % and 95 % of `total`. Raises TimeoutError if the count does not get there."""
    started = time.perf_counter()
    first: tuple[float, int] | None = None
    while True:
        done, now = await count(), time.perf_counter()
        if first is None and done >= FROM_SHARE * total:
            first = now, done
        if first is not None and done >= TO_SHARE * total:
            if done == first[1]:
                raise RuntimeError(f"{total} events were too few to measure a rate")
            return (done - first[1]) / (now - first[0])
        if now - started > SECONDS_MAX:
            raise TimeoutError(f"{done} of {total} events after {SECONDS_MAX:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def percentile(values: list[float], share: float) -> float:
    """The value at `share` (0 to 1) of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
