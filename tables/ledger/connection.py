"""One way to reach Redis, for every process.

In: a URL, and what lets us in. Out: a client that sends each command once. redis-py would repeat one whose connection
broke, and so decide a batch twice under one token; here every caller repeats by itself, where it knows that it may.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# Longer than any step of Lua and any blocking read; shorter than a caller's patience.
SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 2.0


def connect(url: str, **access: Any) -> Redis:
    """A client that connects with its first command. `access` (user, password, TLS files) goes to redis-py as it is.
    Raises ValueError where `url` is none."""
    return Redis.from_url(
        url,
        **access,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_keepalive=True,
        decode_responses=False,
    )


async def check_eviction_policy(redis: Redis) -> str | None:
    """Why this server may drop keys by itself; None where it never does. INFO tells, so no right to CONFIG is needed.
    Raises RedisError."""
    memory = await redis.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return f"Redis's maxmemory-policy is {policy}: a key that is evicted is stock that is lost; it has to be noeviction"
