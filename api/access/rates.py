"""How many requests a key may make a second, and an address without a valid key a minute, in this process.

In: the id of a key, or an address. Out: None, or 429 with `Retry-After`.
"""

from __future__ import annotations

import math
import zlib
from ipaddress import IPv6Address, ip_address

from aiohttp import web
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from stocktide.api import problems
from stocktide.streams.contract.times import now_ms

# Of one address: a fleet of clients with an old key behind one proxy still learns why; a search is slowed down.
STRANGERS_PER_MINUTE = 600
# Addresses share a window by their hash, which bounds the memory; a valid key is served whatever its window.
STRANGER_WINDOWS = 1_024
# Whoever has one address of IPv6 has the 2^64 of its network.
_IPV6_HOST_BITS = 64


class Rates:
    """Fixed windows; `per_second` of a key, 0: no limit."""

    def __init__(self, per_second: int) -> None:
        self._of_key = RateLimitItemPerSecond(per_second) if per_second else None
        self._of_stranger = RateLimitItemPerMinute(STRANGERS_PER_MINUTE)
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    @property
    def windows(self) -> int:
        """How many windows are held."""
        return len(self._storage.storage)

    def refuse(self, key_id: str) -> web.Response | None:
        """Count a request of a key; the problem where it is one too many."""
        if self._of_key is None:
            return None
        return self._refuse(self._of_key, key_id, f"A key makes at most {self._of_key.amount} requests a second here.")

    def refuse_stranger(self, address: str | None) -> web.Response | None:
        """Count a request without a valid key; the problem where it is one too many."""
        detail = f"An address makes at most {STRANGERS_PER_MINUTE} requests without a valid key a minute here."
        return self._refuse(self._of_stranger, f"stranger {_window_of(address or '')}", detail)

    def _refuse(self, item: RateLimitItem, name: str, detail: str) -> web.Response | None:
        if self._limiter.hit(item, name):
            return None
        reset = self._limiter.get_window_stats(item, name).reset_time
        # The clock has whole milliseconds.
        headers = {"Retry-After": str(max(1, math.ceil(round(reset - now_ms() / 1000, 2))))}
        return problems.problem_response(429, "too_many_requests", detail, headers)


def _window_of(address: str) -> int:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return 0
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)
    return zlib.crc32(parsed.packed) % STRANGER_WINDOWS
