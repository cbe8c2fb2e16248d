"""Clients of the journal: append in order, read from an offset, ask for both ends.

In: encoded records. Out: their offsets, and the partition's records. `KafkaLog` uses the shard's partition with a
producer and a consumer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stocktide.errors import StocktideError
from stocktide.streams.topics import JOURNAL_RECORD_BYTES_MAX

# A produce request of many small records: large enough to amortise the round trip.
_BATCH_BYTES_MAX = 1024 * 1024
# Kafka's framing around one record of the largest size.
_FRAMING_BYTES = 64 * 1024
# Callers wait for an append; when it fails, the relay takes over again.
_REQUEST_TIMEOUT_MS = 10_000
# Limit of a close: requests still in flight belong to a term that is over.
_CLOSE_SECONDS = 1.0
# Records per read; bounds the memory of a reader that is far behind.
_READ_RECORDS_MAX = 2_000
# Long poll: a new record ends it at once.
_FETCH_WAIT_MS = 500


class OutOfRange(StocktideError):
    """The journal begins after the requested offset, or ends before it."""


class LogRecord(Protocol):
    """A record of the partition."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def value(self) -> bytes | None: ...


class JournalLog(Protocol):
    """One client of one partition of the journal."""

    async def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """Send `values`, in order and after those of earlier calls. The awaitable gives the offset of the last one once
        every in-sync replica has them, or raises the log's error. Waits while too much is in flight."""
        ...

    async def read(self, offset: int, wait_seconds: float) -> Sequence[LogRecord]:
        """The records from `offset` on; waits up to `wait_seconds` for the first one. One reader at a time. Raises
        OutOfRange."""
        ...

    async def bounds(self) -> tuple[int, int]:
        """The offset of the oldest record, and that of the next record to be appended."""
        ...

    @property
    def next_offset(self) -> int | None:
        """The offset at which the last read ended; None before the first read."""
        ...

    async def close(self) -> None:
        """Close all connections without waiting for records in flight."""
        ...


class KafkaLog:
    """The journal on Kafka. Connects with the first call. After an error of the producer the next append creates a new
    one: the sequence numbers of a failed idempotent producer are not usable."""

    def __init__(self, bootstrap: str, topic: str, partition: int = 0, **security: Any) -> None:
        self._common: dict[str, Any] = {"bootstrap_servers": bootstrap, **security}
        self._partition = TopicPartition(topic, partition)
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._next_offset: int | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """See JournalLog. Raises KafkaError."""
        producer = self._producer or await self._open_producer()
        batch = producer.create_batch()
        sent: list[asyncio.Future[Any]] = []
        for value in values:
            if batch.append(key=None, value=value, timestamp=None) is None:
                sent.append(await self._send(producer, batch))
                batch = producer.create_batch()
                batch.append(key=None, value=value, timestamp=None)
        count = batch.record_count()
        sent.append(await self._send(producer, batch))
        return self._offset_of(sent, count)

    async def _send(self, producer: AIOKafkaProducer, batch: Any) -> asyncio.Future[Any]:
        batch.close()
        try:
            sent: asyncio.Future[Any] = await producer.send_batch(
                batch, self._partition.topic, partition=self._partition.partition
            )
        except KafkaError:
            self._drop_producer(producer)
            raise
        sent.add_done_callback(lambda done: self._on_sent(producer, done))
        return sent

    def _on_sent(self, producer: AIOKafkaProducer, sent: asyncio.Future[Any]) -> None:
        if not sent.cancelled() and sent.exception() is not None:
            self._drop_producer(producer)

    @staticmethod
    async def _offset_of(sent: Sequence[asyncio.Future[Any]], count: int) -> int:
        metadata = (await asyncio.gather(*sent))[-1]
        return int(metadata.offset) + count - 1

    @property
    def next_offset(self) -> int | None:
        """See JournalLog."""
        return self._next_offset

    async def read(self, offset: int, wait_seconds: float) -> Sequence[LogRecord]:
        """See JournalLog. Raises KafkaError, OutOfRange."""
        if self._next_offset not in (None, offset):
            self._drop_consumer()  # a seek would wait for the fetch in flight, which waits for a record
        consumer = self._consumer or await self._open_consumer()
        if offset != self._next_offset:
            consumer.seek(self._partition, offset)
            self._next_offset = offset
        try:
            fetched = await consumer.getmany(
                self._partition, timeout_ms=int(wait_seconds * 1000), max_records=_READ_RECORDS_MAX
            )
        except OffsetOutOfRangeError as error:
            self._drop_consumer()
            raise OutOfRange(f"{self._partition.topic} has no offset {offset}") from error
        records: Sequence[LogRecord] = fetched.get(self._partition, ())
        if records:
            self._next_offset = records[-1].offset + 1
        return records

    async def bounds(self) -> tuple[int, int]:
        """See JournalLog. Raises KafkaError."""
        if self._next_offset is not None:
            self._drop_consumer()  # on the same connection the broker answers only after the fetch in flight
        consumer = self._consumer or await self._open_consumer()
        beginning = await consumer.beginning_offsets([self._partition])
        end = await consumer.end_offsets([self._partition])
        return int(beginning[self._partition]), int(end[self._partition])

    async def close(self) -> None:
        """See JournalLog."""
        self._drop_consumer()
        if self._producer is not None:
            self._drop_producer(self._producer)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * _CLOSE_SECONDS)

    async def _open_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._common,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES_MAX,
            max_request_size=JOURNAL_RECORD_BYTES_MAX + _FRAMING_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        await _started(producer)
        self._producer = producer
        return producer

    def _drop_producer(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            self._stop_aside(producer)

    def _drop_consumer(self) -> None:
        if self._consumer is not None:
            self._stop_aside(self._consumer)
            self._consumer = self._next_offset = None

    def _stop_aside(self, client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
        task = asyncio.ensure_future(_stopped(client))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _open_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._common,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=JOURNAL_RECORD_BYTES_MAX + _FRAMING_BYTES,
            fetch_max_bytes=JOURNAL_RECORD_BYTES_MAX + _FRAMING_BYTES,
        )
        await _started(consumer)
        consumer.assign([self._partition])
        self._consumer, self._next_offset = consumer, None
        return consumer


async def _started(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    try:
        await client.start()
    except BaseException:
        await _stopped(client)
        raise


async def _stopped(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    with suppress(KafkaError, TimeoutError, OSError):
        await asyncio.wait_for(client.stop(), _CLOSE_SECONDS)
