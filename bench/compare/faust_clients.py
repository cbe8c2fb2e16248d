"""The plain Faust agent as a contender: clients through Kafka, stock in Redis, orders in the changelog of its table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from bench.load import RESPONSE_SECONDS_MAX, BenchOrder, ReserveClient, ReserveOutcome
from bench.orders import encode_order
from bench.plain_faust import PARTITIONS
from bench.servers import ModuleProcess
from bench.strategies import HELD, OneLuaCall
from stocktide.loadtest.client.topics import TopicReader, TopicRecord
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer

PLAIN_ID = "plain"
# The first join of the agent's group and the recovery of its tables.
READY_SECONDS_MAX = 120.0
PROBE_SKU = "PROBE"


class PlainStock(OneLuaCall):
    """Keeps the units under the keys that the agent uses."""

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


async def create_topics(kafka: str) -> None:
    """Create the topics of requests and responses."""
    async with admin_client(kafka) as admin:
        await admin.create_topics(
            [NewTopic(f"{PLAIN_ID}-orders", PARTITIONS, 1), NewTopic(f"{PLAIN_ID}-answers", 1, 1)]
        )


async def wait_until_it_responds(
    clients: Callable[[int], AbstractAsyncContextManager[list[ReserveClient]]], stock: PlainStock, agent: ModuleProcess
) -> None:
    """Wait until the agent responds. Raises RuntimeError, TimeoutError."""
    await stock.open({PROBE_SKU: 1})
    async with clients(1) as some, asyncio.timeout(READY_SECONDS_MAX):
        while await some[0].reserve(BenchOrder("probe", PROBE_SKU, 1)) is ReserveOutcome.NONE:
            if not agent.running:
                raise RuntimeError(f"the plain Faust agent ended:\n{agent.last_log_lines()}")
