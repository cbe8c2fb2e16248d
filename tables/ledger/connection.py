"""The Redis connection of every process.

In: a URL and credentials. Out: a client that sends each command once. redis-py would repeat a command whose connection
broke, and so decide a batch twice under one token; callers here retry by themselves where it is safe.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# Longer than any Lua step and any blocking read.
SOCKET_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 2.0


def connect(url: str, answer_seconds_max: float = SOCKET_TIMEOUT_SECONDS, **access: Any) -> Redis:
    """A client that connects with its first command. `access` (user, password, TLS files) goes to redis-py unchanged.
    Raises ValueError if `url` is invalid."""
    return Redis.from_url(
        url,
        **access,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=answer_seconds_max,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_keepalive=True,
        decode_responses=False,
    )


async def check_eviction_policy(redis: Redis) -> str | None:
    """A sentence if this server may evict keys, else None. It asks INFO, which needs no permission for CONFIG. Raises
    RedisError."""
    memory = await redis.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return f"Redis's maxmemory-policy is {policy}: a key that is evicted is stock that is lost; it has to be noeviction"
