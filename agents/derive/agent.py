"""The agent of the topic `journal`: valid batches → the rows of all derived topics except `channel-stock`.

In: chunks of the journal. Out: rows of `reservations`, `adjustments`, `stock`, `policies`, `alerts`, `audit` and
`dead-letters`, of states only the newest per key, and totals of `daily`; then the reader's position, from which a
restart continues. Kafka acknowledges the rows before the position is written, and the position before the chunk is
acked, so a crash only causes the same rows to be derived again. Where a chunk begins beyond the records that the reader
has seen, these are read from the journal first: without them the reader would find every later batch void.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from functools import partial
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct, structs

from stocktide.agents.dead_letters import BurstDetector
from stocktide.agents.derive.days import JournalDays
from stocktide.agents.derive.rows import RowCollector
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import Around
from stocktide.agents.publication_tick import Stopwatch
from stocktide.errors import StocktideError
from stocktide.streams.contract.documents import encode
from stocktide.streams.journal.log import JournalLog
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
from stocktide.streams.topics import DAILY, Topic
from stocktide.tables.changelog_table import PublishedTable
from stocktide.tables.ledger.raw_decision import decode_raw_decision
from stocktide.tables.recovery.checkpoints import CheckpointWriter, begun_key, derived_key

logger = logging.getLogger(__name__)

# Work done before the event loop runs other tasks, such as answers: about a millisecond each.
BATCHES_PER_TURN = 2
ROWS_PER_TURN = 50
# The broker returns existing records at once: this long without any is an outage, and the chunk is tried again.
READ_SECONDS_MAX = 10.0


class _ShardState(Struct, frozen=True):
    """`next_offset` is the one after the last record that was read; `position` is behind it where records are void."""

    epoch: int
    position: Position
    next_offset: int
    begun: Position | None = None
    bytes_since: int = 0


class DailyTotals(Struct, frozen=True):
    """The table of the topic `daily` (its full name), and the time zone of its days."""

    table: PublishedTable
    topic: str
    zone: ZoneInfo


class MissingRecords(StocktideError):
    """The journal does not give the records before a chunk; the chunk is tried again."""


class Derivation:
    """Derives one journal. `app_id` prefixes the topics' names; a shard is a partition of the journal. `work` measures
    the time in which batches are decoded and rows are made; `open_log` gives a client of a shard's journal."""

    def __init__(
        self,
        positions: PublishedTable,
        positions_topic: str,
        publisher: Publisher,
        app_id: str,
        metrics: WorkerMetrics,
        work: Stopwatch,
        open_log: Callable[[int], JournalLog],
        daily: DailyTotals,
        around: Around = nullcontext,
    ) -> None:
        self._positions = positions
        self._positions_topic = positions_topic
        self._publisher = publisher
        self._app_id = app_id
        self._metrics = metrics
        self._bursts = BurstDetector()
        self._work = work
        self._open_log = open_log
        self._daily = daily
        self._around = around
        # By shard: the state since it was read from the table, valid within its epoch.
        self._shards: dict[int, _ShardState] = {}

    async def derive(self, chunk: Chunk, epoch: int) -> None:
        """Publish the rows of a chunk, and of the records before it that were not read. Raises MembershipLost,
        MissingRecords and KafkaError; may be called again with the same chunk."""
        state = self._shard_state(chunk.partition, epoch)
        if state.next_offset < chunk.records[0].offset:
            async with aclosing(self._missing_before(chunk, state.next_offset)) as pieces:
                async for missing in pieces:
                    with self._around(missing):
                        await self._derive(missing, epoch)
        with self._around(chunk):
            await self._derive(chunk, epoch)

    async def _missing_before(self, chunk: Chunk, offset: int) -> AsyncGenerator[Chunk, None]:
        """The records from `offset` up to the chunk, as chunks."""
        log, end = self._open_log(chunk.partition), chunk.records[0].offset
        try:
            beginning, _ = await log.bounds()
            if offset < beginning:
                logger.error(
                    "%s begins at offset %d, and is derived up to %d: the validity of batches cannot be checked",
                    *(chunk.topic, beginning, offset),
                )
                offset = beginning
            elif offset < end:
                logger.warning("%s: reading offsets %d to %d, which were not delivered", chunk.topic, offset, end - 1)
            while offset < end:
                read = await log.read(offset, READ_SECONDS_MAX)
                records: Any = tuple(each for each in read if each.offset < end)
                if not records:
                    raise MissingRecords(f"the journal gives nothing at offset {offset}, before a record at {end}")
                yield Chunk(chunk.topic, chunk.partition, records)
                offset = records[-1].offset + 1
        finally:
            await log.close()

    async def _derive(self, chunk: Chunk, epoch: int) -> None:
        state = self._shard_state(chunk.partition, epoch)
        reader = JournalReader(state.position)
        checkpoints = CheckpointWriter(chunk.partition, state.begun, state.bytes_since)
        days = JournalDays(self._daily.zone, partial(self._read_daily, chunk.partition))
        rows = await read_rows(chunk, reader, checkpoints, self._work, days)
        if reader.position == state.position:
            self._shards[chunk.partition] = structs.replace(state, next_offset=reader.next_offset)
            return
        rows.add_burst_alerts(self._bursts)
        made = await _make_rows(rows, self._work)
        with self._work.running():
            totals: dict[bytes, bytes | None] = {key.encode(): encode(row) for key, row in days.rows().items()}
        _, offset = await asyncio.gather(
            self._publish_rows(made, epoch), self._publish_totals(chunk.partition, totals, epoch)
        )
        if totals:
            self._daily.table.write(chunk.partition, totals, offset)
            self._metrics.rows.labels(DAILY.name).inc(len(totals))
        for topic, topic_rows in made:
            self._metrics.rows.labels(topic.name).inc(len(topic_rows))
        for outcome, number in rows.outcomes.items():
            self._metrics.decided.labels(outcome).inc(number)
        await self._store(chunk.partition, reader, checkpoints, epoch)

    def _shard_state(self, shard: int, epoch: int) -> _ShardState:
        known = self._shards.get(shard)
        if known is not None and known.epoch == epoch:
            return known
        derived = self._positions.read(shard, derived_key(shard))
        begun = self._positions.read(shard, begun_key(shard))
        position = Position.beginning() if derived is None else decode_position(derived)
        return _ShardState(epoch, position, position.offset, None if begun is None else decode_position(begun))

    def _read_daily(self, shard: int, key: str) -> bytes | None:
        return self._daily.table.read(shard, key.encode())

    async def _publish_rows(self, made: list[tuple[Topic, list[OutputRow]]], epoch: int) -> None:
        await asyncio.gather(
            *(self._publisher.publish(topic.full_name(self._app_id), topic_rows, epoch) for topic, topic_rows in made)
        )

    async def _publish_totals(self, shard: int, totals: dict[bytes, bytes | None], epoch: int) -> int:
        """Publish totals by day; the offset of the last one."""
        if not totals:
            return 0
        offsets = await self._publisher.publish(self._daily.topic, totals.items(), epoch, to_partition=lambda _: shard)
        return offsets[shard]

    async def _store(self, shard: int, reader: JournalReader, checkpoints: CheckpointWriter, epoch: int) -> None:
        rows = [(derived_key(shard), encode_position(reader.position)), *checkpoints.rows()]
        # The table reads a shard's rows from the partition of that number.
        offsets = await self._publisher.publish(self._positions_topic, rows, epoch, to_partition=lambda _: shard)
        self._positions.write(shard, dict(rows), offsets[shard])
        self._shards[shard] = _ShardState(
            epoch, reader.position, reader.next_offset, checkpoints.begun, checkpoints.bytes_since
        )
        self._metrics.derived_batch.set(reader.position.batch)


async def _make_rows(rows: RowCollector, work: Stopwatch) -> list[tuple[Topic, list[OutputRow]]]:
    """The topics with rows, and their rows."""
    made: list[tuple[Topic, list[OutputRow]]] = []
    for topic, remaining in rows.by_topic():
        topic_rows: list[OutputRow] = []
        while True:
            with work.running():
                piece = list(islice(remaining, ROWS_PER_TURN))
            if not piece:
                break
            topic_rows += piece
            await asyncio.sleep(0)
        if topic_rows:
            made.append((topic, topic_rows))
    return made


async def read_rows(
    chunk: Chunk, reader: JournalReader, checkpoints: CheckpointWriter, work: Stopwatch, days: JournalDays
) -> RowCollector:
    """The rows of the chunk's valid batches, which are counted in `days`; advances the reader."""
    rows = RowCollector()
    batches = 0
    for record in chunk.records:
        with work.running():
            entry, before = decode_record(record.value), reader.position
            if reader.feed(record.offset, entry) is not RecordVerdict.BATCH or entry is None:
                continue
            try:
                decision = decode_raw_decision(entry.payload)
            except msgspec.MsgspecError as error:
                # The batch is valid: derive the rest. An audit reports the missing rows.
                logger.error("%s-%d, offset %d cannot be read: %s", chunk.topic, chunk.partition, record.offset, error)
                rows.add_unreadable(RecordPlace(chunk.topic, chunk.partition, record.offset), entry, str(error))
                continue
            checkpoints.see(decision, len(entry.payload), before, reader.position)
            rows.add(decision)
            days.add(decision, record.timestamp)
        batches += 1
        if batches % BATCHES_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows
