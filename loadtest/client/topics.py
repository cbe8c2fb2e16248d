"""Who watches what the system tells everyone: any of its public topics.

In: a Kafka address, an app id, and who takes the rows of which topic. Out: each row, from the earliest offset on, to
its taker. Rows that cannot be decoded are counted, never skipped in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.errors import StocktideError

# A lone broker answers in milliseconds; this also bounds how long a stop waits for a poll.
POLL_MS = 200
# Rows handled before the loop lets others run.
ROWS_MAX = 2_000
# Reading a topic from its start is fast; a broker that gives nothing for this long is not well.
CATCH_UP_SECONDS_MAX = 120.0
# A broker that is killed is back within seconds; after this long without one it is an outage.
OUTAGE_SECONDS_MAX = 120.0
# A broker's first answer: it may be starting.
CONNECT_SECONDS_MAX = 15.0
# The journal's rows may be large: an order of 2,000 lines.
FETCH_BYTES_MAX = 4 * 1024 * 1024


class TopicReaderError(StocktideError):
    """The topics cannot be followed; the message says where and why."""


class RejectedEvent(Struct, frozen=True):
    """A row of `dead-letters`: why an event was refused, and its text as it came."""

    reason: str
    detail: str | None = None
    raw: str | None = None

    def event(self) -> dict[str, Any]:
        """The refused event, or nothing where its bytes are no JSON object."""
        try:
            event = orjson.loads(self.raw or "")
        except orjson.JSONDecodeError:
            return {}
        return event if isinstance(event, dict) else {}


class TopicRecord(Struct, frozen=True):
    """A row of a topic, and where it lies."""

    partition: int
    offset: int
    value: bytes


# Raises `msgspec.DecodeError` where the row is none of its topic.
RowHandler = Callable[[TopicRecord], None]
_Kind = TypeVar("_Kind")


def decoding_handler(kind: type[_Kind], give: Callable[[_Kind], None]) -> RowHandler:
    """A taker that decodes JSON rows of one kind and gives them on."""
    decoder = msgspec.json.Decoder(kind)
    return lambda row: give(decoder.decode(row.value))


class TopicReader:
    """Follows topics with one consumer without a group: it reads everything and commits nothing.

    `takers` go by the topic's name without the app id. `rows` counts what came.
    """

    def __init__(self, kafka: str, app_id: str, takers: Mapping[str, RowHandler], **security: Any) -> None:
        self._kafka = kafka
        # What every client is made with.
        self._client: dict[str, Any] = {"bootstrap_servers": kafka, **security}
        self.rows = 0
        self.undecodable = 0
        self._takers = {f"{app_id}-{name}": take for name, take in takers.items()}
        self._consumer = AIOKafkaConsumer(
            **self._client,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Connect and begin to read. Raises TopicReaderError."""
        try:
            await asyncio.wait_for(self._consumer.start(), CONNECT_SECONDS_MAX)
            self._consumer.assign(await self._partitions())
        except (KafkaError, OSError, TimeoutError) as error:
            raise TopicReaderError(f"no Kafka answers at {self._kafka}") from error
        self._task = asyncio.create_task(self._read(), name="feeds")

    async def stop(self) -> None:
        """Stop reading and disconnect."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await self._task
        await self._consumer.stop()

    async def catch_up(self) -> None:
        """Wait until everything that was there when this was called has been read. Raises TopicReaderError."""
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
                ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
                for partition, end in ends.items():
                    await self._reach(partition, end)
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

    async def _reach(self, partition: TopicPartition, end: int) -> None:
        while await self._consumer.position(partition) < end:
            self.check()
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), POLL_MS / 1000)

    async def _partitions(self) -> list[TopicPartition]:
        """Every partition of the topics. Lists before it describes: to describe a topic may create it."""
        admin = AIOKafkaAdminClient(**self._client)
        await admin.start()
        try:
            there = set(await admin.list_topics())
            for topic in self._takers:
                if topic not in there:
                    raise TopicReaderError(
                        f"Kafka at {self._kafka} has no topic {topic}: does Stocktide run there, by that app id?"
                    )
            described = await admin.describe_topics(list(self._takers))
        finally:
            await admin.close()
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
        ]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
            except KafkaError:
                if loop.time() > heard_at + OUTAGE_SECONDS_MAX:
                    raise
                await asyncio.sleep(POLL_MS / 1000)
                continue
            heard_at = loop.time()
            for partition, records in fetched.items():
                take = self._takers[partition.topic]
                for record in records:
                    # A row without a value is a tombstone: the key is gone.
                    if record.value is not None:
                        self._take(take, TopicRecord(partition.partition, record.offset, record.value))
            if fetched:
                self._moved.set()
                await asyncio.sleep(0)

    def _take(self, take: RowHandler, row: TopicRecord) -> None:
        self.rows += 1
        try:
            take(row)
        except msgspec.DecodeError:
            self.undecodable += 1
