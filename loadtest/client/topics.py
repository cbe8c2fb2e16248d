"""The public topics: one consumer that reads every row from the earliest offset on.

In: Kafka's address, an app id, a handler for each topic. Out: rows, to their handlers. Rows that cannot be decoded are
counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.errors import StocktideError

# A lone broker answers in milliseconds; this also bounds how long `stop` waits for a poll.
POLL_MS = 200
# Rows handled before other tasks run.
ROWS_MAX = 2_000
# Reading a topic from its start is fast; a broker that returns nothing for this long has failed.
CATCH_UP_SECONDS_MAX = 120.0
# A killed broker is back within seconds; a longer gap is an outage.
OUTAGE_SECONDS_MAX = 120.0
# A broker's first response: it may still be starting.
CONNECT_SECONDS_MAX = 15.0
# The journal's rows may be large: an order of 2,000 lines.
FETCH_BYTES_MAX = 4 * 1024 * 1024


class TopicReaderError(StocktideError):
    """The topics cannot be read; the message says where and why."""


class TopicRecord(Struct, frozen=True):
    """A row of a topic and its position."""

    partition: int
    offset: int
    value: bytes


# Raises `msgspec.DecodeError` where the row does not match its topic's schema.
RowHandler = Callable[[TopicRecord], None]
_Kind = TypeVar("_Kind")


def decoding_handler(kind: type[_Kind], handle: Callable[[_Kind], None]) -> RowHandler:
    """A handler that decodes JSON rows of one kind and passes them to `handle`."""
    decoder = msgspec.json.Decoder(kind)
    return lambda row: handle(decoder.decode(row.value))


class TopicReader:
    """Reads topics without a consumer group and commits nothing.

    `handlers`: by topic name without the app id. `rows` counts all rows, `undecodable` those that a handler rejected.
    `on_caught_up` is called after each poll that left no fetched row behind.
    """

    def __init__(
        self,
        kafka: str,
        app_id: str,
        handlers: Mapping[str, RowHandler],
        on_caught_up: Callable[[], None] | None = None,
        **security: Any,
    ) -> None:
        self._on_caught_up = on_caught_up or (lambda: None)
        self.rows = 0
        self.undecodable = 0
        self._kafka = kafka
        self._access: dict[str, Any] = {"bootstrap_servers": kafka, **security}
        self._handlers = {f"{app_id}-{name}": handler for name, handler in handlers.items()}
        self._consumer = AIOKafkaConsumer(
            **self._access,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        self._task: asyncio.Task[None] | None = None
        self._rows_handled = asyncio.Event()

    async def start(self) -> None:
        """Connect and begin to read. Raises TopicReaderError."""
        try:
            await asyncio.wait_for(self._consumer.start(), CONNECT_SECONDS_MAX)
            self._consumer.assign(await self._partitions())
        except (KafkaError, OSError, TimeoutError) as error:
            raise TopicReaderError(f"no Kafka answers at {self._kafka}") from error
        self._task = asyncio.create_task(self._read(), name="topic reader")

    async def stop(self) -> None:
        """Stop reading and disconnect."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await self._task
        # The consumer raises CancelledError for its own pending fetch.
        await asyncio.gather(self._consumer.stop(), return_exceptions=True)

    async def catch_up(self) -> None:
        """Wait until every row that existed at the call has been handled. Raises TopicReaderError."""
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
                ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
                for partition, end in ends.items():
                    await self._wait_for_offset(partition, end)
        except TimeoutError as error:
            raise TopicReaderError(
                f"the topics at {self._kafka} were not read within {CATCH_UP_SECONDS_MAX:.0f} s"
            ) from error
        except KafkaError as error:
            raise TopicReaderError(f"the topics at {self._kafka} cannot be read: {error}") from error

    def check(self) -> None:
        """Raise TopicReaderError if reading has ended."""
        if self._task is not None and self._task.done():
            raise TopicReaderError(f"reading the topics at {self._kafka} ended") from self._task.exception()

    async def _wait_for_offset(self, partition: TopicPartition, end: int) -> None:
        while await self._consumer.position(partition) < end:
            self.check()
            self._rows_handled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._rows_handled.wait(), POLL_MS / 1000)

    async def _partitions(self) -> list[TopicPartition]:
        """Every partition of the topics. A describe may create a missing topic, so the list comes first."""
        admin = AIOKafkaAdminClient(**self._access)
        await admin.start()
        try:
            existing = set(await admin.list_topics())
            for topic in self._handlers:
                if topic not in existing:
                    raise TopicReaderError(
                        f"Kafka at {self._kafka} has no topic {topic}: does Stocktide run there, by that app id?"
                    )
            described = await admin.describe_topics(list(self._handlers))
        finally:
            await admin.close()
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
        ]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        last_response_at = loop.time()
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
            except KafkaError:
                if loop.time() > last_response_at + OUTAGE_SECONDS_MAX:
                    raise
                await asyncio.sleep(POLL_MS / 1000)
                continue
            last_response_at = loop.time()
            for partition, records in fetched.items():
                handler = self._handlers[partition.topic]
                for record in records:
                    # A row without a value is a tombstone.
                    if record.value is not None:
                        self._handle(handler, TopicRecord(partition.partition, record.offset, record.value))
            if sum(map(len, fetched.values())) < ROWS_MAX:
                self._on_caught_up()
            if fetched:
                self._rows_handled.set()
                await asyncio.sleep(0)

    def _handle(self, handler: RowHandler, row: TopicRecord) -> None:
        self.rows += 1
        try:
            handler(row)
        except msgspec.DecodeError:
            self.undecodable += 1
