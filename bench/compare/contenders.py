"""The contenders: Stocktide and the usual ways, each with servers and processes of its own that can be killed.

In: a name and a folder. Out: clients, stock, kills, and the state of the store afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.compare.faust_clients import PLAIN_ID, PlainStock, create_topics, kafka_clients, wait_until_it_responds
from bench.compare.stores import PostgresStore, StoreServer
from bench.load import ReserveClient, http_clients
from bench.orders import LINES_PER_EVENT, movement_event, wait_until_applied
from bench.plain_faust import plain_faust
from bench.servers import BenchedProcess, ModuleProcess, run_servers
from bench.service import service
from bench.strategies import STRATEGIES, StockKeeper
from bench.valkey import TAIL_SECONDS, BenchValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.loadtest.client.http import StocktideClient

APP_ID = "compare"
WAREHOUSE = "SH1"
REQUESTS_MAX = 64
# A movement that is not applied within this after a recovery is a failure of the run.
APPLIED_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to reserve stock: a store, its stock, clients, and processes that can be killed."""

    store: StoreServer
    stock: StockKeeper
    clients: Callable[[int], AbstractAsyncContextManager[list[ReserveClient]]]
    processes: Sequence[ModuleProcess]
    killed: str

    async def kill(self) -> str:
        """SIGKILL its own processes at the same time and restart them; a description."""
        await asyncio.gather(*(process.end_by_kill() for process in self.processes))
        await self._start()
        return f"kill -9 of {self.killed}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Contender]:
        """Its processes are ready, for the duration."""
        try:
            await self._start()
            yield self
        finally:
            await asyncio.gather(*(process.stop() for process in self.processes))
            await self.stock.close()

    async def _start(self) -> None:
        await asyncio.gather(*(process.start() for process in self.processes))


class ApiStock:
    """Stock and orders of Stocktide, through the public API only."""

    def __init__(self, client: StocktideClient) -> None:
        self._client = client
        self._movements = itertools.count()

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive these units of each SKU; returns when every receipt is applied."""
        skus = list(stock)
        for start in range(0, len(skus), LINES_PER_EVENT):
            units = {sku: stock[sku] for sku in skus[start : start + LINES_PER_EVENT]}
            movement_id, occurred_at = f"open-{next(self._movements)}", datetime.now(UTC).isoformat()
            await self._client.send_event(movement_event("stock.received", movement_id, WAREHOUSE, units, occurred_at))
            await wait_until_applied(self._client, WAREHOUSE, movement_id, APPLIED_SECONDS_MAX)

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """By `GET /v1/orders/{order_id}`."""
        found = await asyncio.gather(*map(self._client.order, order_ids))
        return {order.order_id for order in found if order is not None and order.state == "reserved"}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """By `GET /v1/stock/{sku}`."""
        found = await asyncio.gather(*map(self._client.stock, skus))
        return {sku: stock.available if stock else 0 for sku, stock in zip(skus, found, strict=True)}

    async def close(self) -> None:
        """Nothing: the client belongs to the caller."""


@asynccontextmanager
async def _run_stocktide(folder: Path) -> AsyncIterator[Contender]:
    """A worker and an API with default settings."""
    async with run_servers(folder) as servers:
        await servers.create_topics(APP_ID)
        worker, api = (BenchedProcess(servers, APP_ID, kind) for kind in ("worker", "api"))
        async with StocktideClient(api.url, REQUESTS_MAX) as client:
            clients = partial(http_clients, api.port)
            contender = Contender(servers.valkey, ApiStock(client), clients, (worker, api), "its worker and its API")
            async with contender.running():
                yield contender


@asynccontextmanager
async def _run_plain_faust(folder: Path) -> AsyncIterator[Contender]:
    """A plain Faust agent: stock in Redis, orders in its table, requests and responses through Kafka."""
    async with run_servers(folder) as servers:
        kafka = servers.kafka.address
        await create_topics(kafka)
        agent = plain_faust(servers, PLAIN_ID, servers.folder / "agent.log", responds=True)
        stock, clients = PlainStock(servers.valkey.url, kafka), partial(kafka_clients, kafka)
        async with Contender(servers.valkey, stock, clients, (agent,), "its worker").running() as contender:
            await wait_until_it_responds(contender.clients, stock, agent)
            yield contender


@asynccontextmanager
async def _run_service(name: str, make_store: Callable[[Path], StoreServer], folder: Path) -> AsyncIterator[Contender]:
    """A strategy in the common HTTP service, a process of its own, and its store."""
    store, port = make_store(folder), pick_free_port()
    try:
        await store.start()
        process = service(port, folder / f"{name}.log", name, store.url)
        clients, stock = partial(http_clients, port), STRATEGIES[name](store.url)
        async with Contender(store, stock, clients, (process,), "its process").running() as contender:
            yield contender
    finally:
        await store.stop()


def _valkey(folder: Path, always: bool = False) -> StoreServer:
    return BenchValkey(folder / "valkey", folder / "valkey.log", always)


def _postgres(folder: Path) -> StoreServer:
    return PostgresStore(folder / "postgres.log")


@dataclass(frozen=True, slots=True)
class ContenderEntry:
    """A line of the table: the contender, and how its store is killed."""

    title: str
    store_death: str
    opened: Callable[[Path], AbstractAsyncContextManager[Contender]]


_TAIL = f"Redis without its last {TAIL_SECONDS:.0f} s"
_ALWAYS = partial(_valkey, always=True)
CONTENDERS: Mapping[str, ContenderEntry] = {
    "stocktide": ContenderEntry("Stocktide, by HTTP", _TAIL, _run_stocktide),
    "faust": ContenderEntry("a plain Faust agent, by Kafka", _TAIL, _run_plain_faust),
    "lock": ContenderEntry("redis-py Lock, AOF everysec", _TAIL, partial(_run_service, "lock", _valkey)),
    "lua": ContenderEntry("one Lua call, no log, AOF everysec", _TAIL, partial(_run_service, "lua", _valkey)),
    "lua-always": ContenderEntry("one Lua call, no log, AOF always", "kill -9", partial(_run_service, "lua", _ALWAYS)),
    "row-lock": ContenderEntry(
        "PostgreSQL, SELECT … FOR UPDATE", "kill -9, crash recovery", partial(_run_service, "row-lock", _postgres)
    ),
}
