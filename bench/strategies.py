"""The usual ways to reserve stock in a store, each implemented as carefully as it allows.

In: an order. Out: `held` or `refused`; the same again for a repeated order. All keep the remaining units of each SKU
and the state of each order, and nothing else: no holds that expire, no channels, no log.
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
# As many as clients, so that none waits for a connection.
CONNECTIONS = 64
SOCKET_SECONDS_MAX = 5.0
# The lock of a process that died expires after this; by default a redis-py lock never expires.
LOCK_SECONDS = 5.0
# redis-py's default is 0.1 s; with a hot SKU a tenth of that is faster.
LOCK_POLL_SECONDS = 0.01
# Longer than the expiry of a dead holder's lock.
LOCK_WAIT_SECONDS = 5.5
# Exceptions of a store that is down or restarts.
OUTAGES = (
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    EOFError,
    OSError,
    TimeoutError,
)


class StockKeeper(Protocol):
    """The stock and the orders of a contender."""

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive these units of each SKU."""

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """Those of the orders that are held in the store."""

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """The remaining units of each SKU."""

    async def close(self) -> None:
        """Close the connections."""


class ReserveStrategy(StockKeeper, Protocol):
    """A way to reserve stock, connected to its store."""

    async def reserve(self, order_id: str, sku: str, units: int) -> str:
        """`held` or `refused`. Raises one of `OUTAGES`; the effect is unknown then."""


class _RedisStrategy:
    """Units at `stock:SKU`, states at `order:ID`."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=SOCKET_SECONDS_MAX, socket_timeout=SOCKET_SECONDS_MAX
        )
        # Any: the return types of redis-py fit neither of its two protocols.
        self._redis: Any = Redis(connection_pool=pool)
        # Reads may follow a restart of the server and replace a dead connection; clients of `reserve` retry
        # themselves.
        self._reader: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 1))

    async def open(self, stock: Mapping[str, int]) -> None:
        await self._reader.mset({f"stock:{sku}": units for sku, units in stock.items()})

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        states = await self._reader.mget([f"order:{order_id}" for order_id in order_ids])
        return {order_id for order_id, state in zip(order_ids, states, strict=True) if state == HELD.encode()}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        values = await self._reader.mget([f"stock:{sku}" for sku in skus])
        return {sku: int(value or 0) for sku, value in zip(skus, values, strict=True)}

    async def close(self) -> None:
        await self._reader.aclose()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


class RedisLock(_RedisStrategy):
    """redis-py's `Lock` around read, decide, write; all writes are in one `MULTI`."""

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


class OneLuaCall(_RedisStrategy):
    """Everything in one script; the response follows its execution."""

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
        # Connections are opened on demand: the store may be down now.
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
        await self._pool  # initialises it the first time
        return self._pool


STRATEGIES: Mapping[str, Callable[[str], ReserveStrategy]] = {"lock": RedisLock, "lua": OneLuaCall, "row-lock": RowLock}
