"""The rows of the derived topics, read repeatedly up to the current end.

In: the topics `stock`, `reservations`, `adjustments`, `policies` and `journal-positions`. Out: rows, the newest of a
key last; each call continues where the last one stopped.
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

# Rows per poll: bounds memory (a row is a kilobyte or two).
_ROWS_MAX = 2_000
_POLL_MS = 500
# After this many empty polls before the end, the broker counts as failed.
_EMPTY_POLLS_MAX = 40
_FETCH_BYTES_MAX = 4 * 1024 * 1024
# The batch of a row that cannot be decoded.
UNREADABLE = -1

ReportOffsets = Callable[[int, int], None]


class TableSide(Protocol):
    """The tables as an audit reads them."""

    async def checkpoints(self) -> Checkpoints:
        """The derived position, and the checkpoints of the journal."""
        ...

    def rows(self, report: ReportOffsets) -> AsyncIterator[list[StoredRow]]:
        """The rows since the last call (the first begins at the beginning) up to the current end. A row that cannot be
        decoded has batch UNREADABLE. Progress goes to `report(done, total)`."""
        ...

    async def rewind(self) -> None:
        """Start again from the beginning."""
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
        """Close the consumer."""
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
        total, done, empty_polls = sum(ends[each] - first[each] for each in partitions), dict(first), 0
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=_ROWS_MAX)
            empty_polls = 0 if fetched else empty_polls + 1
            if empty_polls > _EMPTY_POLLS_MAX:
                raise KafkaError(f"{', '.join(sorted(str(each) for each in left))}: nothing comes before the end")
            for partition, records in fetched.items():
                yield [self._row(partition, record) for record in records if record.key is not None]
            for partition in list(left):
                # Compaction may have removed the last records; the consumer's position moves past them.
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
