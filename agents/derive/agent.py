"""The agent of the topic `journal`: valid batches → the rows of every derived topic but `channel-stock`.

In: chunks of the journal. Out: rows of `reservations`, `adjustments`, `stock`, `policies`, `alerts`, `audit` and
`dead-letters`, each topic's newest per key of the chunk; then the reader's position, so that a restart judges the
next record as if there had been none. All rows are acknowledged before the position is written, and the position
before the chunk is acked: what a crash leaves is derived again, to the same rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import msgspec
from msgspec import Struct

from stocktide.agents.dead_letters import BurstDetector
from stocktide.agents.derive.rows import RowCollector
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_throttle import Stopwatch
from stocktide.streams.journal.record import (
    JournalReader,
    Position,
    RecordVerdict,
    decode_position,
    decode_record,
    encode_position,
)
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.kafka.transport import Chunk
from stocktide.streams.topics import Topic
from stocktide.tables.ledger.raw_decision import decode_raw_decision
from stocktide.tables.recovery.checkpoints import CheckpointWriter, begun_key, derived_key

logger = logging.getLogger(__name__)

# What is done before other work of the loop gets a turn, shoppers' answers among it: about a millisecond each.
BATCHES_PER_TURN = 2
ROWS_PER_TURN = 50


class PositionTable(Protocol):
    """What is needed of the table `journal_positions`: rows by partition."""

    def read(self, partition: int, key: bytes) -> bytes | None: ...
    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None: ...


class _Stand(Struct, frozen=True):
    epoch: int
    position: Position
    begun: Position | None = None
    bytes_since: int = 0


class Derivation:
    """Derives one journal. `app_id` prefixes the topics' names; a shard is a partition of the journal."""

    def __init__(
        self, positions: PositionTable, positions_topic: str, publisher: Publisher, app_id: str, metrics: WorkerMetrics
    ) -> None:
        self._positions = positions
        self._positions_topic = positions_topic
        self._publisher = publisher
        self._app_id = app_id
        self._metrics = metrics
        self._bursts = BurstDetector()
        self._watch = Stopwatch(time.perf_counter)
        # By shard: the epoch in which it was read from the table, the position since, and what the marks go on from.
        self._stands: dict[int, _Stand] = {}

    def worked(self) -> float:
        """Seconds for which reading batches and making rows has kept the loop busy so far."""
        return self._watch.seconds()

    async def derive(self, chunk: Chunk, epoch: int) -> None:
        """Publish what a chunk changes. Raises MembershipLost; may be called again with the same chunk."""
        stand = self._stand(chunk.partition, epoch)
        if stand.position.offset < chunk.records[0].offset and stand.position == Position.beginning():
            logger.error(
                "%s begins at offset %d, and nothing says what lay before it: no batch can be told valid",
                chunk.topic,
                chunk.records[0].offset,
            )
        reader, marks = JournalReader(stand.position), CheckpointWriter(chunk.partition, stand.begun, stand.bytes_since)
        rows = await read_rows(chunk, reader, marks, self._watch)
        if reader.position == stand.position:
            return
        rows.tell_bursts(self._bursts)
        made = await _made(rows, self._watch)
        await asyncio.gather(
            *(self._publisher.publish(topic.full_name(self._app_id), some, epoch) for topic, some in made)
        )
        for topic, some in made:
            self._metrics.rows.labels(topic.name).inc(len(some))
        await self._store(chunk.partition, reader.position, marks, epoch)

    def _stand(self, shard: int, epoch: int) -> _Stand:
        known = self._stands.get(shard)
        if known is not None and known.epoch == epoch:
            return known
        derived = self._positions.read(shard, derived_key(shard))
        begun = self._positions.read(shard, begun_key(shard))
        return _Stand(
            epoch,
            Position.beginning() if derived is None else decode_position(derived),
            None if begun is None else decode_position(begun),
        )

    async def _store(self, shard: int, position: Position, marks: CheckpointWriter, epoch: int) -> None:
        rows = [(derived_key(shard), encode_position(position)), *marks.rows()]
        # The table's topic has a partition per shard, and so the rows go where the table looks for them.
        offsets = await self._publisher.publish(self._positions_topic, rows, epoch, to_partition=lambda _: shard)
        self._positions.write(shard, dict(rows), offsets[shard])
        self._stands[shard] = _Stand(epoch, position, marks.begun, marks.bytes_since)
        self._metrics.derived_batch.set(position.batch)


async def _made(rows: RowCollector, watch: Stopwatch) -> list[tuple[Topic, list[OutputRow]]]:
    """The topics that get rows, with them."""
    made: list[tuple[Topic, list[OutputRow]]] = []
    for topic, coming in rows.by_topic():
        some: list[OutputRow] = []
        while True:
            with watch.running():
                piece = list(islice(coming, ROWS_PER_TURN))
            if not piece:
                break
            some += piece
            await asyncio.sleep(0)
        if some:
            made.append((topic, some))
    return made


async def read_rows(chunk: Chunk, reader: JournalReader, marks: CheckpointWriter, watch: Stopwatch) -> RowCollector:
    """The rows of the chunk's valid batches; moves the reader."""
    rows = RowCollector()
    batches = 0
    for record in chunk.records:
        with watch.running():
            entry, before = decode_record(record.value), reader.position
            if reader.feed(record.offset, entry) is not RecordVerdict.BATCH or entry is None:
                continue
            try:
                decision = decode_raw_decision(entry.payload)
            except msgspec.MsgspecError as error:
                # It counts, and a derivation that stops here derives nothing any more: an audit tells what is missing.
                logger.error("%s-%d, offset %d cannot be read: %s", chunk.topic, chunk.partition, record.offset, error)
                rows.add_unreadable(RecordPlace(chunk.topic, chunk.partition, record.offset), entry, str(error))
                continue
            marks.see(decision, len(entry.payload), before, reader.position)
            rows.add(decision)
        batches += 1
        if batches % BATCHES_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows
