"""The two doors of the system: Kafka's topics and HTTP.

In: order events and movements as JSON objects of the contract. Out: they were taken, or a `EventSinkError`.
Both give back pressure: no door holds more than its named limit of what was not acknowledged yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stocktide.errors import StocktideError
from stocktide.loadtest.client.events import Event, paid_of
from stocktide.loadtest.client.http import JSON, NDJSON, StocktideClient

# A broker's first answer: it may be starting.
CONNECT_SECONDS_MAX = 15.0
# Sends that Kafka has not acknowledged: enough to fill batches, little enough to hold in memory.
UNACKNOWLEDGED_MAX = 5_000
# Batches of this size keep the broker busy without making a record wait.
BATCH_BYTES = 256 * 1024
LINGER_MS = 5
# The largest message of the contract is 1 MiB of JSON.
REQUEST_BYTES_MAX = 2 * 1024 * 1024
# Requests under way at once: the checkout load at which the API is measured.
REQUESTS_MAX = 64
RETRY_SECONDS = 0.25
# How long the worker may take to commit what it has answered; Faust commits every few seconds.
COMMIT_SECONDS_MAX = 60.0


class EventSinkError(StocktideError):
    """The system cannot be reached, or refuses what it should take; the message says what and where."""


class EventSink(Protocol):
    """Where events go in."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def order(self, placed: Event) -> None:
        """Place an order and pay for it."""

    async def ship(self, shipped: Event) -> None:
        """Tell that units of an order left."""

    async def movement(self, event: Event) -> None:
        """Send a movement of a warehouse."""

    async def taken(self) -> bool:
        """Wait until all that was sent has been handled; False where that cannot be known."""


class KafkaEventSink:
    """Sends to the topics `orders` and `movements`; a paid follows its placed at once, in its partition."""

    def __init__(self, kafka: str, app_id: str, **security: Any) -> None:
        self._kafka = kafka
        # What every client is made with.
        self._client: dict[str, Any] = {"bootstrap_servers": kafka, **security}
        self._app_id = app_id
        self._producer = AIOKafkaProducer(
            **self._client,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
            max_request_size=REQUEST_BYTES_MAX,
        )
        self._slots = asyncio.Semaphore(UNACKNOWLEDGED_MAX)
        self._failed: BaseException | None = None
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wait_for(self._producer.start(), CONNECT_SECONDS_MAX)
        except (KafkaError, OSError, TimeoutError) as error:
            with contextlib.suppress(KafkaError, OSError):
                await self._producer.stop()
            raise EventSinkError(f"no Kafka answers at {self._kafka}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def order(self, placed: Event) -> None:
        """Send `order.placed` and `order.paid`, without waiting for an answer between them."""
        await self._send("orders", placed["order_id"], placed)
        await self._send("orders", placed["order_id"], paid_of(placed))

    async def ship(self, shipped: Event) -> None:
        """Send `order.shipped`."""
        await self._send("orders", shipped["order_id"], shipped)

    async def movement(self, event: Event) -> None:
        """Send a movement, in its warehouse's order."""
        await self._send("movements", event["warehouse"], event)

    async def taken(self) -> bool:
        """Wait until the worker's consumer group, named as the app, has committed all that was sent."""
        try:
            await self._producer.flush()
            admin = AIOKafkaAdminClient(**self._client)
            await admin.start()
        except (KafkaError, OSError) as error:
            raise EventSinkError(f"Kafka at {self._kafka} does not answer any more: {error}") from error
        try:
            for _ in range(int(COMMIT_SECONDS_MAX / RETRY_SECONDS)):
                if await self._committed(admin):
                    return True
                await asyncio.sleep(RETRY_SECONDS)
        except KafkaError:
            return False
        finally:
            await admin.close()
        return False

    async def _committed(self, admin: AIOKafkaAdminClient) -> bool:
        committed = await admin.list_consumer_group_offsets(self._app_id)
        return all(
            partition in committed and committed[partition].offset >= end for partition, end in self._ends.items()
        )

    async def _send(self, topic: str, key: str, event: Event) -> None:
        await self._slots.acquire()
        if self._failed is not None:
            raise EventSinkError(f"Kafka at {self._kafka} took no more: {self._failed}") from self._failed
        try:
            acknowledged = await self._producer.send(
                f"{self._app_id}-{topic}", value=orjson.dumps(event), key=key.encode()
            )
        except KafkaError as error:
            raise EventSinkError(f"Kafka at {self._kafka} took no more: {error}") from error
        acknowledged.add_done_callback(self._acknowledged)

    def _acknowledged(self, sent: asyncio.Future[Any]) -> None:
        self._slots.release()
        if sent.cancelled():
            return
        if (error := sent.exception()) is not None:
            self._failed = error
            return
        record = sent.result()
        partition = TopicPartition(record.topic, record.partition)
        self._ends[partition] = max(self._ends.get(partition, 0), record.offset + 1)


class HttpEventSink:
    """Places and pays through the API, `REQUESTS_MAX` orders at once; all else goes there too."""

    def __init__(self, client: StocktideClient) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(REQUESTS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def order(self, placed: Event) -> None:
        """`POST /v1/orders`, then `/pay` where the order was taken."""
        await self._start(self._place_and_pay(placed))

    async def ship(self, shipped: Event) -> None:
        """`POST /v1/events` with the one shipment."""
        await self._start(self._post("/v1/events", orjson.dumps(shipped) + b"\n", NDJSON))

    async def movement(self, event: Event) -> None:
        """`POST /v1/movements`; movements wait for one another, to keep the warehouse's order."""
        await self._post("/v1/movements", orjson.dumps(event))

    async def taken(self) -> bool:
        """Wait until every request was answered: an answer is given when the order's batch is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._check()
        return True

    async def _start(self, work: Coroutine[Any, Any, object]) -> None:
        await self._slots.acquire()
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        self._check()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed = error

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def _place_and_pay(self, placed: Event) -> None:
        body = {name: value for name, value in placed.items() if name != "type"}
        if await self._post("/v1/orders", orjson.dumps(body)) != 409:
            await self._post(f"/v1/orders/{quote(placed['order_id'], safe='')}/pay", b"{}")

    async def _post(self, path: str, body: bytes, content: str = JSON) -> int:
        answer = await self._client.call("POST", path, body, content)
        if answer.status not in (200, 201, 202, 409):
            raise EventSinkError(f"POST {path} was answered {answer.said()}")
        return answer.status
