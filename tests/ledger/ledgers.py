"""Limits of the ledgers under test, where a test runs, and what makes a server decide for it: the key `blessed`.

In: a Redis that tests share; each uses an app id of its own. Out: that app id's ledger, blessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from stocktide.tables.ledger import codes, packed, scripts
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.scripts import key_prefix
from tests.ledger.model_state import ModelState

TERM = "1"
# For tests of what only a server has: on each kind of server, or on Valkey alone.
ON_SERVERS = pytest.mark.parametrize("decider", ["valkey", "redis_server"], indirect=True)
ON_VALKEY = pytest.mark.parametrize("decider", ["valkey"], indirect=True)
# How long parked events wait in these tests; the model's default is the same.
PARK_MS = 60_000
LIMITS = LedgerLimits(park_ms=PARK_MS)
# Limits so low that random runs reach them; those of the model are the same.
LOW_LIMITS = LedgerLimits(
    park_ms=PARK_MS,
    waiting_alert_ms=5_000,
    approval_ms=20_000,
    waiting_order_bytes_max=300,
    waiting_bytes_max=500,
    extensions_max=1,
    event_ids_listed=2,
    expected_per_sku_max=2,
)


@contextmanager
def many_warehouses(count: int) -> Iterator[None]:
    """Let a SKU in more than `count` warehouses be one in many, for Lua and for Python."""
    before = codes.MANY_WAREHOUSES
    try:
        _set_many(count)
        yield
    finally:
        _set_many(before)


def _set_many(count: int) -> None:
    codes.MANY_WAREHOUSES = count
    scripts.load_source.cache_clear()
    packed._layout.cache_clear()


def low_limits() -> ModelState:
    """A model's state under LOW_LIMITS."""
    names = ("park_ms", "waiting_alert_ms", "waiting_order_bytes_max", "waiting_bytes_max", "extensions_max")
    names += ("expected_per_sku_max", "approval_ms")
    return ModelState(**{name: getattr(LOW_LIMITS, name) for name in names})


async def bless(redis: Redis, app_id: str, shard: int = 0) -> None:
    """Write what a takeover writes: the ids of this server."""
    server, replication = await redis.info("server"), await redis.info("replication")
    ids: dict[Any, Any] = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": TERM}
    await redis.hset(f"{key_prefix(app_id, shard)}blessed", mapping=ids)
