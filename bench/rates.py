"""How fast a counter that somebody else raises goes up, measured in its steady middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

# Start-up and the last half-empty chunks are left out of a rate.
FROM_SHARE, TO_SHARE = 0.1, 0.95
POLL_SECONDS = 0.02
SECONDS_MAX = 180.0


async def measure_rate(done: Callable[[], Awaitable[int]], total: int) -> float:
    """Events a second between 10 % and 95 % of `total`. Raises TimeoutError where it does not get there."""
    started = time.perf_counter()
    first: tuple[float, int] | None = None
    while True:
        count, now = await done(), time.perf_counter()
        if first is None and count >= FROM_SHARE * total:
            first = now, count
        if first is not None and count >= TO_SHARE * total:
            if count == first[1]:
                raise RuntimeError(f"{total} events were too few to measure a rate")
            return (count - first[1]) / (now - first[0])
        if now - started > SECONDS_MAX:
            raise TimeoutError(f"{count} of {total} events after {SECONDS_MAX:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def percentile(values: list[float], share: float) -> float:
    """The value at `share` (0 to 1) of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
