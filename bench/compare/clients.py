"""The callers' side of each door: one HTTP connection a caller, or one Kafka client for all of them.

In: an order. Out: what its caller is told. A caller who is not answered in time hangs up and asks anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from bench.compare.load import BenchOrder, ReserveClient, ReserveOutcome
from bench.http_load import HttpConnection

# The deadline of a call; Stocktide's own answers 503 before it.
ANSWER_SECONDS_MAX = 6.0
CHANNEL = "shop"
# 500: a door that stumbled over what its driver raised when the store died; a client asks again as well.
_OF_STATUS = {
    200: ReserveOutcome.HELD,
    201: ReserveOutcome.HELD,
    409: ReserveOutcome.REFUSED,
    500: ReserveOutcome.NONE,
    503: ReserveOutcome.NONE,
}


class HttpReserveClient:
    """One keep-alive connection to `POST /v1/orders`. Raises RuntimeError for a status that no door should give."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: HttpConnection | None = None

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Ask once."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                status = await (await self._connected()).ask(request_bytes(order))
        except (OSError, TimeoutError):
            self.close()
            return ReserveOutcome.NONE
        if status not in _OF_STATUS:
            raise RuntimeError(f"{order.order_id}: status {status}")
        return _OF_STATUS[status]

    def close(self) -> None:
        """Hang up."""
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


def request_bytes(order: BenchOrder) -> bytes:
    """One POST of the order, in Stocktide's own format, which every door here takes."""
    body = orjson.dumps(
        {
            "order_id": order.order_id,
            "channel": CHANNEL,
            "lines": [{"sku": order.sku, "quantity": order.units}],
        }
    )
    head = (
        "POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def http_clients(port: int, count: int) -> AsyncIterator[list[ReserveClient]]:
    """So many callers with a connection each."""
    callers = [HttpReserveClient(port) for _ in range(count)]
    try:
        yield list(callers)
    finally:
        for caller in callers:
            caller.close()


class KafkaReserveClient:
    """One producer of orders and one consumer of answers, as a service in front of a stream processor has them."""

    def __init__(self, kafka: str, orders: str, answers: str) -> None:
        self._orders = orders
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
        self._consumer = AIOKafkaConsumer(answers, bootstrap_servers=kafka, group_id=None, auto_offset_reset="latest")
        self._waiting: dict[str, asyncio.Future[ReserveOutcome]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; answers are read from now on."""
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
        """Send it, and wait for the answer that names it."""
        waiting: asyncio.Future[ReserveOutcome] = asyncio.get_running_loop().create_future()
        self._waiting[order.order_id] = waiting
        value = {"order_id": order.order_id, "sku": order.sku, "units": order.units}
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await self._producer.send(self._orders, orjson.dumps(value), key=order.order_id.encode())
                return await waiting
        except (KafkaError, TimeoutError):
            return ReserveOutcome.NONE
        finally:
            del self._waiting[order.order_id]

    async def _read(self) -> None:
        async for record in self._consumer:
            told = orjson.loads(record.value)
            waiting = self._waiting.get(told["order_id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(ReserveOutcome(told["state"]))


@asynccontextmanager
async def kafka_clients(kafka: str, orders: str, answers: str, count: int) -> AsyncIterator[list[ReserveClient]]:
    """So many callers, on one client."""
    door = KafkaReserveClient(kafka, orders, answers)
    await door.start()
    try:
        yield [door] * count
    finally:
        with suppress(KafkaError):
            await door.stop()
