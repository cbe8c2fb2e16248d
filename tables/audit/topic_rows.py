"""What the tables show: the rows of the derived topics, read to their end again and again.

In: the topics `stock`, `reservations`, `adjustments`, `policies` and `journal-positions`. Out: rows as they come, the
newest of a key last; a reader that goes on where it stopped can wait for what is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from stocktide.streams.topics import split_key
from stocktide.tables.derived_rows import ROW_KINDS, StoredRow, decode_derived_row
from stocktide.tables.recovery.checkpoints import Checkpoints, read_checkpoints

# A poll's rows; bounds the memory of a chunk (a row is a kilobyte or two).
_ROWS_MAX = 2_000
_POLL_MS = 500
# A broker that gives nothing for so many polls in a row, before the end is reached, is an outage.
_SILENT_POLLS_MAX = 40
_FETCH_BYTES_MAX = 4 * 1024 * 1024
# The batch of a row that cannot be read.
UNREADABLE = -1

ReportOffsets = Callable[[int, int], None]


class TableSide(Protocol):
    """What an audit needs of the tables."""

    async def checkpoints(self) -> Checkpoints:
        """How far they were derived, and from where the journal may be read."""
        ...

    def rows(self, report: ReportOffsets) -> AsyncIterator[list[StoredRow]]:
        """The rows since the last call, up to what is the end now; the first call begins at the beginning. A row that
        cannot be read has batch UNREADABLE. `report(done, total)` is told how far it is."""
        ...

    async def rewind(self) -> None:
        """Begin at the beginning again."""
        ...


class KafkaTables:
    """The tables on Kafka. Every method raises KafkaError."""

    def __init__(self, kafka: str, app_id: str, shard: int = 0, **security: Any) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._shard = shard
        self._security = security
        self._topics = {topic.full_name(app_id): kind for topic, kind in ROW_KINDS.items()}
        self._consumer: AIOKafkaConsumer | None = None

    async def checkpoints(self) -> Checkpoints:
        """See TableSide."""
        return await read_checkpoints(self._kafka, self._app_id, self._shard, **self._security)

    async def rewind(self) -> None:
        """See TableSide."""
        await self.close()

    async def close(self) -> None:
        """Let go of Kafka."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def rows(self, report: ReportOffsets) -> AsyncIterator[list[StoredRow]]:
        """See TableSide."""
        consumer = self._consumer or await self._open()
        partitions: list[TopicPartition] = sorted(consumer.assignment())
        first = {each: await consumer.position(each) for each in partitions}
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        left = {each for each in partitions if ends[each] > first[each]}
        total, done, silent = sum(ends[each] - first[each] for each in partitions), dict(first), 0
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=_ROWS_MAX)
            silent = 0 if fetched else silent + 1
            if silent > _SILENT_POLLS_MAX:
                raise KafkaError(f"{', '.join(sorted(str(each) for each in left))}: nothing comes before the end")
            for partition, records in fetched.items():
                yield [self._row(partition, record) for record in records if record.key is not None]
            for partition in list(left):
                # The last records of a compacted partition may be gone: the consumer's own position passes them.
                done[partition] = await consumer.position(partition)
                if done[partition] >= ends[partition]:
                    left.discard(partition)
            report(sum(min(done[each], ends[each]) - first[each] for each in partitions), total)
            await asyncio.sleep(0)

    def _row(self, partition: TopicPartition, record: Any) -> StoredRow:
        kind = self._topics[partition.topic]
        try:
            row = decode_derived_row(kind, record.key, record.value)
        except UnicodeDecodeError:
            row = None
        if row is not None:
            return row
        key = record.key.decode(errors="backslashreplace")
        return StoredRow(kind, "\n".join(split_key(key)) if kind == "movement" else key, UNREADABLE, None)

    async def _open(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            *self._topics,
            **{"bootstrap_servers": self._kafka, **self._security},
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        )
        await consumer.start()
        self._consumer = consumer
        found = {each.topic for each in consumer.assignment()}
        if missing := self._topics.keys() - found:
            raise KafkaError(f"Kafka has no topic {', '.join(sorted(missing))}")
        await consumer.seek_to_beginning(*consumer.assignment())
        return consumer
