"""Clients of the contenders: one HTTP connection each, or one Kafka client for all of them.

In: an order. Out: its response. After a timeout a client closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from bench.compare.load import BenchOrder, ReserveClient, ReserveOutcome
from bench.http_load import HttpConnection, order_request

# The deadline of a request; Stocktide answers 503 earlier.
RESPONSE_SECONDS_MAX = 6.0
CHANNEL = "shop"
# 500: a service that did not catch an exception of its driver when the store died; retried like 503.
_OUTCOME_OF_STATUS = {
    200: ReserveOutcome.HELD,
    201: ReserveOutcome.HELD,
    409: ReserveOutcome.REFUSED,
    500: ReserveOutcome.NONE,
    503: ReserveOutcome.NONE,
}


class HttpReserveClient:
    """One keep-alive connection to `POST /v1/orders`. Raises RuntimeError for an unexpected status."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: HttpConnection | None = None

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order once."""
        request = order_request(order.order_id, CHANNEL, order.sku, order.units)
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                status = await (await self._connected()).send(request)
        except (OSError, TimeoutError):
            self.close()
            return ReserveOutcome.NONE
        if status not in _OUTCOME_OF_STATUS:
            raise RuntimeError(f"{order.order_id}: status {status}")
        return _OUTCOME_OF_STATUS[status]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()
        self._connection = None

    async def _connected(self) -> HttpConnection:
        old = self._connection
        if old is None or old.transport is None or old.transport.is_closing():
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(HttpConnection, "127.0.0.1", self._port)
        assert self._connection is not None
        return self._connection


@asynccontextmanager
async def http_clients(port: int, count: int) -> AsyncIterator[list[ReserveClient]]:
    """`count` clients with a connection each."""
    clients = [HttpReserveClient(port) for _ in range(count)]
    try:
        yield list(clients)
    finally:
        for client in clients:
            client.close()


class KafkaReserveClient:
    """A producer of orders and a consumer of responses, as a service in front of a stream processor has them."""

    def __init__(self, kafka: str, orders: str, answers: str) -> None:
        self._orders = orders
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
        self._consumer = AIOKafkaConsumer(answers, bootstrap_servers=kafka, group_id=None, auto_offset_reset="latest")
        self._pending: dict[str, asyncio.Future[ReserveOutcome]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and read responses from now on."""
        await self._producer.start()
        await self._consumer.start()
        await self._consumer.seek_to_end()
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """Disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order, and wait for its response."""
        pending: asyncio.Future[ReserveOutcome] = asyncio.get_running_loop().create_future()
        self._pending[order.order_id] = pending
        value = {"order_id": order.order_id, "sku": order.sku, "units": order.units}
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                await self._producer.send(self._orders, orjson.dumps(value), key=order.order_id.encode())
                return await pending
        except (KafkaError, TimeoutError):
            return ReserveOutcome.NONE
        finally:
            del self._pending[order.order_id]

    async def _read(self) -> None:
        async for record in self._consumer:
            response = orjson.loads(record.value)
            pending = self._pending.get(response["order_id"])
            if pending is not None and not pending.done():
                pending.set_result(ReserveOutcome(response["state"]))


@asynccontextmanager
async def kafka_clients(kafka: str, orders: str, answers: str, count: int) -> AsyncIterator[list[ReserveClient]]:
    """`count` clients, which share one connection."""
    client = KafkaReserveClient(kafka, orders, answers)
    await client.start()
    try:
        yield [client] * count
    finally:
        with suppress(KafkaError):
            await client.stop()
