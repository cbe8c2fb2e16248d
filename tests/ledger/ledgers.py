"""A blessed, empty ledger for a test, on a server that others share: it is kept apart by an app id of its own.

In: the URL of a server. Out: a `Ledger`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from tables.ledger import Ledger, LedgerLimits
from tables.scripts import key_prefix

TERM = "1"
# How long parked events wait in these tests; the model's default is the same.
PARK_MS = 60_000


async def bless(redis: Redis, app_id: str, shard: int = 0) -> None:
    """Write what a takeover would: this very server may decide."""
    server, replication = await redis.info("server"), await redis.info("replication")
    ids: dict[Any, Any] = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": TERM}
    await redis.hset(f"{key_prefix(app_id, shard)}blessed", mapping=ids)


@asynccontextmanager
async def opened(url: str, clients: int = 1) -> AsyncIterator[Ledger]:
    """A blessed, empty ledger of its own on the server at `url`, over at most `clients` connections."""
    redis = Redis.from_url(url, max_connections=clients + 1)
    app_id = f"test-{secrets.token_hex(6)}"
    await bless(redis, app_id)
    try:
        yield Ledger(redis, app_id=app_id, limits=LedgerLimits(park_ms=PARK_MS))
    finally:
        await redis.aclose()
