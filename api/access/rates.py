"""How many requests a key may make a second, and an address without a valid key, in this process.

In: the id of a key, or an address. Out: None, or 429 with `Retry-After`.
"""

from __future__ import annotations

import math
import zlib
from ipaddress import IPv6Address, ip_address

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from stocktide.api import problems
from stocktide.streams.contract.times import now_ms

# Addresses share a window by their hash, which bounds the memory; a valid key is served whatever its window.
STRANGER_WINDOWS = 1_024
# Whoever has one address of IPv6 has the 2^64 of its network.
_IPV6_HOST_BITS = 64


class Rates:
    """Fixed windows; `per_second` of a key, and of an address without one; 0: no limit."""

    def __init__(self, per_second: int) -> None:
        self._item = RateLimitItemPerSecond(per_second) if per_second else None
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    @property
    def windows(self) -> int:
        """How many windows are held."""
        return len(self._storage.storage)

    def refuse(self, key_id: str) -> web.Response | None:
        """Count a request of a key; the problem where it is one too many."""
        return self._refuse(key_id, "A key makes")

    def refuse_stranger(self, address: str | None) -> web.Response | None:
        """Count a request without a valid key, which cannot be guessed but takes time; the problem of one too many."""
        return self._refuse(f"stranger {_window_of(address or '')}", "Without a valid key an address makes")

    def _refuse(self, name: str, who: str) -> web.Response | None:
        if self._item is None or self._limiter.hit(self._item, name):
            return None
        reset = self._limiter.get_window_stats(self._item, name).reset_time
        # The clock has whole milliseconds.
        headers = {"Retry-After": str(max(1, math.ceil(round(reset - now_ms() / 1000, 2))))}
        detail = f"{who} at most {self._item.amount} requests a second here."
        return problems.problem_response(429, "too_many_requests", detail, headers)


def _window_of(address: str) -> int:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return 0
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)
    return zlib.crc32(parsed.packed) % STRANGER_WINDOWS
