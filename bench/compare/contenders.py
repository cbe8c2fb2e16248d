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

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from bench.compare.stores import PostgresStore, StoreServer
from bench.http_load import http_clients
from bench.load import RESPONSE_SECONDS_MAX, BenchOrder, ReserveClient, ReserveOutcome
from bench.orders import LINES_PER_EVENT, encode_order, movement_event, wait_until_applied
from bench.plain_faust import PARTITIONS, plain_faust
from bench.servers import BenchedProcess, ModuleProcess, run_servers
from bench.service import service
from bench.strategies import HELD, STRATEGIES, OneLuaCall, StockKeeper
from bench.valkey import TAIL_SECONDS, BenchValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.topics import TopicReader, TopicRecord
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer

APP_ID = "compare"
WAREHOUSE = "SH1"
REQUESTS_MAX = 64
# A movement that is not applied within this after a recovery is a failure of the run.
APPLIED_SECONDS_MAX = 120.0
PLAIN_ID = "plain"
# The first join of the agent's group and the recovery of its tables.
READY_SECONDS_MAX = 120.0
PROBE_SKU = "PROBE"


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


class PlainStock(OneLuaCall):
    """Stock under the keys that the plain Faust agent uses, and orders in the changelog of its table."""

    def __init__(self, url: str, kafka: str) -> None:
        super().__init__(url)
        self._kafka = kafka

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        states: dict[str, str] = {}
        async with topic_consumer(self._kafka, f"{PLAIN_ID}-states-changelog") as consumer:
            async for _, records in read_topic(consumer):
                states |= {orjson.loads(record.key or b""): orjson.loads(record.value or b"") for record in records}
        return {order_id for order_id in order_ids if states.get(order_id) == HELD}


class KafkaReserveClient:
    """A producer of orders that waits for responses, as a service in front of a stream processor does."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._pending: dict[str, asyncio.Future[ReserveOutcome]] = {}

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order, and wait for its response."""
        pending: asyncio.Future[ReserveOutcome] = asyncio.get_running_loop().create_future()
        self._pending[order.order_id] = pending
        value = encode_order(order.order_id, order.channel, order.sku, units=order.units)
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                await self._producer.send(f"{PLAIN_ID}-orders", value, key=order.order_id.encode())
                return await pending
        except (KafkaError, TimeoutError):
            return ReserveOutcome.NONE
        finally:
            del self._pending[order.order_id]

    def take(self, record: TopicRecord) -> None:
        """Handle a response."""
        response = orjson.loads(record.value)
        pending = self._pending.get(response["order_id"])
        if pending is not None and not pending.done():
            pending.set_result(ReserveOutcome(response["state"]))


@asynccontextmanager
async def kafka_clients(kafka: str, count: int) -> AsyncIterator[list[ReserveClient]]:
    """`count` clients, which share one connection."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        client = KafkaReserveClient(producer)
        reader = TopicReader(kafka, PLAIN_ID, {"answers": client.take})
        await reader.start()
        try:
            await reader.catch_up()
            yield [client] * count
        finally:
            await reader.stop()


async def _wait_until_it_responds(contender: Contender, agent: ModuleProcess) -> None:
    """Wait until the agent responds. Raises RuntimeError, TimeoutError."""
    await contender.stock.open({PROBE_SKU: 1})
    async with contender.clients(1) as some, asyncio.timeout(READY_SECONDS_MAX):
        while await some[0].reserve(BenchOrder("probe", PROBE_SKU, 1)) is ReserveOutcome.NONE:
            if not agent.running:
                raise RuntimeError(f"the plain Faust agent ended:\n{agent.last_log_lines()}")


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
        async with admin_client(kafka) as admin:
            topics = [NewTopic(f"{PLAIN_ID}-orders", PARTITIONS, 1), NewTopic(f"{PLAIN_ID}-answers", 1, 1)]
            await admin.create_topics(topics)
        agent = plain_faust(servers, PLAIN_ID, servers.folder / "agent.log", responds=True)
        stock, clients = PlainStock(servers.valkey.url, kafka), partial(kafka_clients, kafka)
        async with Contender(servers.valkey, stock, clients, (agent,), "its worker").running() as contender:
            await _wait_until_it_responds(contender, agent)
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
