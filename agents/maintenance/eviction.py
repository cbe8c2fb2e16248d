"""Would Redis drop keys to make room? A counter that is dropped is stock that is lost, so such a worker is not ready.

In: a client. Out: `trouble`, for readiness.
"""

from __future__ import annotations

import asyncio
import contextlib

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.streams.shutdown import end
from stocktide.tables.ledger.connection import check_eviction_policy

# A setting that an operator changes, if ever; INFO costs Redis some microseconds.
EVICTION_CHECK_SECONDS = 2.0


class EvictionMonitor:
    """Looks every EVICTION_CHECK_SECONDS. `trouble` is why this Redis must not be used, None where it may."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._looking: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Look from now on."""
        self._looking = asyncio.create_task(self._look(), name="eviction")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            await end(self._looking)

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):  # that it is away is for the relay to tell
                self.trouble = await check_eviction_policy(self._redis)
            await asyncio.sleep(EVICTION_CHECK_SECONDS)
