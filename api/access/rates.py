"""How many requests a key may make a second, in this process.

In: the id of a key. Out: None, or 429 with `Retry-After`.
"""

from __future__ import annotations

import math

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from stocktide.api import problems
from stocktide.streams.contract.times import now_ms


class Rates:
    """A fixed window of a second for each key; `per_second` 0: no limit."""

    def __init__(self, per_second: int) -> None:
        self._item = RateLimitItemPerSecond(per_second) if per_second else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_second = per_second

    def refuse(self, key_id: str) -> web.Response | None:
        """Count a request; the problem where it is one too many."""
        if self._item is None or self._limiter.hit(self._item, key_id):
            return None
        reset = self._limiter.get_window_stats(self._item, key_id).reset_time
        # The clock has whole milliseconds.
        headers = {"Retry-After": str(max(1, math.ceil(round(reset - now_ms() / 1000, 2))))}
        detail = f"A key makes at most {self._per_second} requests a second here."
        return problems.problem_response(429, "too_many_requests", detail, headers)
