"""The rows of the derived topics, read repeatedly up to the current end.

In: the topics `stock`, `reservations`, `adjustments`, `policies` and `journal-positions`. Out: rows, the newest of a
key last; each call continues where the last one stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from stocktide.streams.kafka.read_topic import open_consumer, read_topic
from stocktide.streams.topics import split_key
from stocktide.tables.derived_rows import ROW_KINDS, StoredRow, decode_derived_row
from stocktide.tables.recovery.checkpoints import Checkpoints, read_checkpoints

# The batch of a row that cannot be decoded.
UNREADABLE = -1

ReportOffsets = Callable[[int, int], None]


class KafkaTables:
    """The tables on Kafka, as an audit reads them. Every method raises KafkaError."""

    def __init__(self, kafka: str, app_id: str, shard: int = 0, **security: Any) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._shard = shard
        self._security = security
        self._topics = {topic.full_name(app_id): kind for topic, kind in ROW_KINDS.items()}
        self._consumer: AIOKafkaConsumer | None = None

    async def checkpoints(self) -> Checkpoints:
        """The derived position, and the checkpoints of the journal."""
        return await read_checkpoints(self._kafka, self._app_id, self._shard, **self._security)

    async def close(self) -> None:
        """Close the consumer; the next call of `rows` begins at the beginning again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def rows(self, report: ReportOffsets) -> AsyncIterator[list[StoredRow]]:
        """The rows since the last call (the first begins at the beginning) up to the current end. A row that cannot be
        decoded has batch UNREADABLE. Progress goes to `report(done, total)`."""
        if self._consumer is None:
            self._consumer = await open_consumer(self._kafka, *self._topics, **self._security)
        async for partition, records in read_topic(self._consumer, report=report):
            yield [self._row(partition, record) for record in records if record.key is not None]

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
