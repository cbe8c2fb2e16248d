"""The usual ways to reserve stock in a store, each written as carefully as the way allows.

In: an order. Out: `held` or `refused`; the same again for an order that is known. All keep the units left of each SKU
and the state of each order, and nothing else: no holds that end, no channels, no log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import asyncpg
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

HELD, REFUSED = "held", "refused"
# As many as callers: none waits for a connection.
CONNECTIONS = 64
SOCKET_SECONDS_MAX = 5.0
# A lock that is forgotten by a process that died is free again after this; redis-py's own default is never.
LOCK_SECONDS = 5.0
# redis-py waits 0.1 s between two tries; at a hot SKU a tenth of that serves more.
LOCK_POLL_SECONDS = 0.01
# Longer than a dead holder's lock, so that nobody gives up for one.
LOCK_WAIT_SECONDS = 5.5
# What a store that is down or comes back raises.
OUTAGES = (
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    EOFError,
    OSError,
    TimeoutError,
)
# Orders that one statement looks up.
LOOK_UP = 1_000


class ReserveStrategy(Protocol):
    """A way, connected to its store."""

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive so many units of each SKU."""

    async def reserve(self, order_id: str, sku: str, units: int) -> str:
        """`held` or `refused`. Raises one of `OUTAGES`; what was done then is not known."""

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """Those of the orders that the store has as held."""

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """The units that the store has left of each SKU."""

    async def close(self) -> None:
        """Let go of the connections."""


class _InRedis:
    """Units at `stock:SKU`, states at `order:ID`."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=SOCKET_SECONDS_MAX, socket_timeout=SOCKET_SECONDS_MAX
        )
        # Typed as Any: what redis-py says of its answers fits neither of its two protocols.
        self._redis: Any = Redis(connection_pool=pool)
        # Reads may come after the server's death: a dead connection is replaced. Callers of `reserve` ask again
        # themselves.
        self._reader: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 1))

    async def open(self, stock: Mapping[str, int]) -> None:
        await self._reader.mset({f"stock:{sku}": units for sku, units in stock.items()})

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(order_ids), LOOK_UP):
            some = order_ids[start : start + LOOK_UP]
            states = await self._reader.mget([f"order:{order_id}" for order_id in some])
            found |= {order_id for order_id, state in zip(some, states, strict=True) if state == HELD.encode()}
        return found

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        values = await self._reader.mget([f"stock:{sku}" for sku in skus])
        return {sku: int(value or 0) for sku, value in zip(skus, values, strict=True)}

    async def close(self) -> None:
        await self._reader.aclose()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


class RedisLock(_InRedis):
    """redis-py's `Lock` around read, decide, write; what it writes, it writes in one `MULTI`."""

    async def reserve(self, order_id: str, sku: str, units: int) -> str:
        lock = self._redis.lock(
            f"lock:{sku}", timeout=LOCK_SECONDS, sleep=LOCK_POLL_SECONDS, blocking_timeout=LOCK_WAIT_SECONDS
        )
        async with lock:
            known, left = await self._redis.mget(f"order:{order_id}", f"stock:{sku}")
            if known is not None:
                return str(known.decode())
            state = HELD if int(left) >= units else REFUSED
            async with self._redis.pipeline(transaction=True) as both:
                if state == HELD:
                    both.set(f"stock:{sku}", int(left) - units)
                both.set(f"order:{order_id}", state)
                await both.execute()
            return state


_RESERVE = """
local known = redis.call('GET', KEYS[2])
if known then return known end
local state = 'refused'
if tonumber(redis.call('GET', KEYS[1])) >= tonumber(ARGV[1]) then
  redis.call('DECRBY', KEYS[1], ARGV[1])
  state = 'held'
end
redis.call('SET', KEYS[2], state)
return state
"""


class OneLuaCall(_InRedis):
    """Everything in one script, answered as soon as Redis has run it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._reserve = self._redis.register_script(_RESERVE)

    async def reserve(self, order_id: str, sku: str, units: int) -> str:
        state: bytes = await self._reserve(keys=[f"stock:{sku}", f"order:{order_id}"], args=[units])
        return state.decode()


_TABLES = """
CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, units bigint NOT NULL CHECK (units >= 0));
CREATE TABLE IF NOT EXISTS orders (order_id text PRIMARY KEY, sku text NOT NULL, units bigint NOT NULL,
                                   state text NOT NULL);
"""


class RowLock:
    """PostgreSQL: `SELECT … FOR UPDATE` of the SKU's row, then the order's row, then commit."""

    def __init__(self, url: str) -> None:
        # Connections are opened as they are needed: the store may be down at the moment.
        self._pool = asyncpg.create_pool(url, min_size=0, max_size=CONNECTIONS, command_timeout=SOCKET_SECONDS_MAX)

    async def open(self, stock: Mapping[str, int]) -> None:
        async with (await self._connected()).acquire() as connection:
            await connection.execute(_TABLES)
            await connection.executemany(
                "INSERT INTO stock VALUES ($1, $2) ON CONFLICT (sku) DO UPDATE SET units = excluded.units",
                list(stock.items()),
            )

    async def reserve(self, order_id: str, sku: str, units: int) -> str:
        async with (await self._connected()).acquire() as connection, connection.transaction():
            left = await connection.fetchval("SELECT units FROM stock WHERE sku = $1 FOR UPDATE", sku)
            known = await connection.fetchval("SELECT state FROM orders WHERE order_id = $1", order_id)
            if known is not None:
                return str(known)
            state = HELD if left >= units else REFUSED
            if state == HELD:
                await connection.execute("UPDATE stock SET units = units - $2 WHERE sku = $1", sku, units)
            await connection.execute("INSERT INTO orders VALUES ($1, $2, $3, $4)", order_id, sku, units, state)
        return state

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        rows = await (await self._connected()).fetch(
            "SELECT order_id FROM orders WHERE state = $2 AND order_id = ANY($1)", list(order_ids), HELD
        )
        return {row["order_id"] for row in rows}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        rows = await (await self._connected()).fetch("SELECT sku, units FROM stock WHERE sku = ANY($1)", list(skus))
        return {row["sku"]: row["units"] for row in rows}

    async def close(self) -> None:
        await self._pool.close()

    async def _connected(self) -> Any:
        await self._pool  # makes it ready the first time, and is nothing afterwards
        return self._pool


STRATEGIES: Mapping[str, Callable[[str], ReserveStrategy]] = {"lock": RedisLock, "lua": OneLuaCall, "row-lock": RowLock}
