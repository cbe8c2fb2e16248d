"""What this process did in the last ten minutes, by intervals of five seconds.

In: each answered order; the number of channel updates read. Out: series for `GET /v1/health/series`, without a value
where nothing was measured.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import NoReturn

from msgspec import Struct

from stocktide.streams.contract.documents import HealthSeries, SeriesValues
from stocktide.streams.contract.times import now_ms, rfc3339

INTERVAL_SECONDS = 5
INTERVALS = 120
# Times are counted in steps of 5 %, so that any number of them takes the same memory.
_STEP = math.log(1.05)
ORDERS_ROUTE = "/v1/orders"
_REFUSED = 409


class _Interval(Struct, frozen=True):
    orders: float
    rejections: float
    p50: float | None
    p99: float | None
    updates: float | None


class ProcessSeries:
    """The series of one process. `updates`: how many channel updates were read so far, None while the feeds are read
    for the first time."""

    def __init__(self, updates: Callable[[], int | None]) -> None:
        self._updates = updates
        self._updates_before: int | None = None
        self._intervals: deque[_Interval] = deque(maxlen=INTERVALS)
        self._ends_at = now_ms()
        self._orders = 0
        self._rejections = 0
        # By step: how many orders were answered in that time.
        self._times: Counter[int] = Counter()

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request; only placed orders are shown."""
        if route != ORDERS_ROUTE or method != "POST" or seconds is None:
            return
        if status < 300:
            self._orders += 1
        elif status == _REFUSED:
            self._rejections += 1
        else:
            return
        self._times[math.ceil(math.log(max(seconds, 1e-6)) / _STEP)] += 1

    async def run(self) -> NoReturn:
        """Close an interval every INTERVAL_SECONDS until cancelled."""
        loop = asyncio.get_running_loop()
        began, self._updates_before = loop.time(), self._updates()
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            now = loop.time()
            self.close_interval(now - began)
            began = now

    def close_interval(self, seconds: float) -> None:
        """End the interval, which has lasted `seconds`."""
        before, now = self._updates_before, self._updates()
        self._updates_before = now
        # A log that is made anew begins from zero.
        updates = None if before is None or now is None or now < before else (now - before) / seconds
        self._intervals.append(
            _Interval(
                self._orders / seconds, self._rejections / seconds, self._quantile(0.5), self._quantile(0.99), updates
            )
        )
        self._ends_at = now_ms()
        self._orders = self._rejections = 0
        self._times.clear()

    def shown(self) -> HealthSeries:
        """The series, oldest first."""
        missing: list[float | None] = [None] * (INTERVALS - len(self._intervals))

        def values(number: Callable[[_Interval], float | None]) -> list[float | None]:
            found = (number(each) for each in self._intervals)
            return [*missing, *(None if value is None else round(value, 3) for value in found)]

        return HealthSeries(
            INTERVAL_SECONDS,
            rfc3339(self._ends_at),
            SeriesValues(
                orders_per_second=values(lambda each: each.orders),
                rejections_per_second=values(lambda each: each.rejections),
                order_p50_ms=values(lambda each: each.p50),
                order_p99_ms=values(lambda each: each.p99),
                updates_per_second=values(lambda each: each.updates),
            ),
        )

    def _quantile(self, share: float) -> float | None:
        """In ms, within 5 %; None where no order was answered."""
        total, seen = self._times.total(), 0
        for step in sorted(self._times):
            seen += self._times[step]
            if seen >= share * total:
                return math.exp(step * _STEP) * 1000
        return None
