"""A blessed, empty ledger for a test, on a server that others share: it is kept apart by an app id of its own.

In: the URL of a server. Out: a `Ledger`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.scripts import key_prefix
from tests.ledger.model_state import ModelState

TERM = "1"
# How long parked events wait in these tests; the model's default is the same.
PARK_MS = 60_000
LIMITS = LedgerLimits(park_ms=PARK_MS)
# Limits so low that random runs reach them; `low_limits` of the model are the same.
LOW_LIMITS = LedgerLimits(
    park_ms=PARK_MS,
    waiting_alert_ms=5_000,
    waiting_order_bytes_max=300,
    waiting_bytes_max=500,
    extensions_max=1,
    event_ids_listed=2,
)


def low_limits() -> ModelState:
    """A model's state under LOW_LIMITS."""
    names = ("park_ms", "waiting_alert_ms", "waiting_order_bytes_max", "waiting_bytes_max", "extensions_max")
    return ModelState(**{name: getattr(LOW_LIMITS, name) for name in names})


async def bless(redis: Redis, app_id: str, shard: int = 0) -> None:
    """Write what a takeover would: this very server may decide."""
    server, replication = await redis.info("server"), await redis.info("replication")
    ids: dict[Any, Any] = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": TERM}
    await redis.hset(f"{key_prefix(app_id, shard)}blessed", mapping=ids)


@asynccontextmanager
async def open_ledger(url: str, clients: int = 1, limits: LedgerLimits = LIMITS) -> AsyncIterator[Ledger]:
    """A blessed, empty ledger of its own on the server at `url`, over at most `clients` connections."""
    redis = Redis.from_url(url, max_connections=clients + 1)
    app_id = f"test-{secrets.token_hex(6)}"
    await bless(redis, app_id)
    try:
        yield Ledger(redis, app_id=app_id, limits=limits)
    finally:
        await redis.aclose()
