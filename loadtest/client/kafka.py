"""Input events over Kafka: to the topics `orders` and `movements`.

In: Kafka's address, an app id, events with their `type`. Out: where Kafka stored each event, or `EventNotStored`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from stocktide.client.http import error_reason
from stocktide.errors import StocktideError
from stocktide.loadtest.client.events import Event

# A broker's first response: it may still be starting.
CONNECT_SECONDS_MAX = 15.0
# Unacknowledged events of `enqueue`: enough to fill batches, few enough to hold in memory.
UNACKNOWLEDGED_MAX = 5_000
# Batches of this size keep the broker busy without delaying a record.
BATCH_BYTES = 256 * 1024
# The contract allows 1 MiB of JSON in a message.
REQUEST_BYTES_MAX = 2 * 1024 * 1024
# The worker commits what it has processed every few seconds.
COMMIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.25
_ERRORS = (KafkaError, TimeoutError, OSError)


class EventNotStored(StocktideError):
    """Kafka did not acknowledge an event. `reason` is `timeout` or the name of the error's class."""

    def __init__(self, detail: str, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class EventProducer:
    """Sends events, keyed so that those of an order, or of a warehouse, keep their order.

    `acknowledged_seconds_max`: a record that Kafka does not acknowledge in this time fails; without it the producer is
    idempotent and retries for as long as it runs.
    """

    def __init__(
        self,
        kafka: str,
        app_id: str,
        acknowledged_seconds_max: float | None = None,
        linger_ms: int = 5,
        **security: Any,
    ) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._access: dict[str, Any] = {"bootstrap_servers": kafka, **security}
        limits = {}
        self._timeout_seconds: float | None = None
        if acknowledged_seconds_max is not None:
            limits["request_timeout_ms"] = int(acknowledged_seconds_max * 1000)
            self._timeout_seconds = 2 * acknowledged_seconds_max
        self._producer = AIOKafkaProducer(
            **self._access,
            acks="all",
            **limits,
            enable_idempotence=not limits,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
            linger_ms=linger_ms,
        )
        self._slots = asyncio.Semaphore(UNACKNOWLEDGED_MAX)
        self._failure: BaseException | None = None
        # By partition, the offset after the last event of `enqueue`.
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wait_for(self._producer.start(), CONNECT_SECONDS_MAX)
        except _ERRORS as error:
            with contextlib.suppress(KafkaError, OSError):
                await self._producer.stop()
            raise EventNotStored(f"no Kafka answers at {self._kafka}", error_reason(error)) from error
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._producer.stop()

    async def send_record(self, topic: str, key: bytes, value: bytes) -> RecordMetadata:
        """Send one event and wait for Kafka's acknowledgement; `topic` is without the app id. Raises EventNotStored."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._producer.send_and_wait(f"{self._app_id}-{topic}", value, key=key)
        except _ERRORS as error:
            raise EventNotStored(f"Kafka at {self._kafka} took no more: {error}", error_reason(error)) from error

    async def enqueue(self, event: Event) -> None:
        """Send one event without waiting for its acknowledgement, unless `UNACKNOWLEDGED_MAX` wait.

        Raises EventNotStored where an earlier event failed.
        """
        await self._slots.acquire()
        topic, key, value = record_of(event)
        try:
            if self._failure is not None:
                raise self._failure
            acknowledged = await self._producer.send(f"{self._app_id}-{topic}", value=value, key=key)
        except _ERRORS as error:
            raise EventNotStored(f"Kafka at {self._kafka} took no more: {error}", error_reason(error)) from error
        acknowledged.add_done_callback(self._on_acknowledged)

    async def wait_until_consumed(self) -> bool:
        """Whether the worker, whose consumer group is the app id, commits every enqueued event in time.

        Raises EventNotStored.
        """
        try:
            await self._producer.flush()
            admin = AIOKafkaAdminClient(**self._access)
            await admin.start()
        except (KafkaError, OSError) as error:
            raise EventNotStored(f"Kafka at {self._kafka} does not answer any more: {error}") from error
        try:
            for _ in range(int(COMMIT_SECONDS_MAX / POLL_SECONDS)):
                committed = await admin.list_consumer_group_offsets(self._app_id)
                if all(part in committed and committed[part].offset >= end for part, end in self._ends.items()):
                    return True
                await asyncio.sleep(POLL_SECONDS)
        except KafkaError:
            return False
        finally:
            await admin.close()
        return False

    def _on_acknowledged(self, sent: asyncio.Future[RecordMetadata]) -> None:
        self._slots.release()
        if sent.cancelled():
            return
        if (error := sent.exception()) is not None:
            self._failure = error
            return
        record = sent.result()
        partition = TopicPartition(record.topic, record.partition)
        self._ends[partition] = max(self._ends.get(partition, 0), record.offset + 1)


def record_of(event: Event) -> tuple[str, bytes, bytes]:
    """Topic without the app id, key and value of an event."""
    if event["type"].startswith("stock."):
        return "movements", event["warehouse"].encode(), orjson.dumps(event)
    return "orders", event["order_id"].encode(), orjson.dumps(event)
