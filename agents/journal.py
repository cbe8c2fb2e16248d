"""The agent of the topic `journal`: valid batches → the rows of every derived topic but `channel-stock`.

In: chunks of the journal. Out: rows of `reservations`, `adjustments`, `stock`, `policies`, `alerts`, `audit` and
`dead-letters`, each topic's newest per key of the chunk; then the reader's position, so that a restart judges the
next record as if there had been none. All rows are acknowledged before the position is written, and the position
before the chunk is acked: what a crash leaves is derived again, to the same rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from agents.metrics import Metrics
from agents.rows import Rows
from streams.journal import (
    JournalReader,
    Position,
    Verdict,
    decode_position,
    decode_record,
    encode_position,
)
from streams.publish import Publisher
from streams.transport import Chunk
from tables.records import decode_decision

logger = logging.getLogger(__name__)

# Batches turned into rows before other work of the loop gets a turn: some ms.
BATCHES_PER_TURN = 8


class Positions(Protocol):
    """What is needed of the table `journal_positions`: rows by partition."""

    def read(self, partition: int, key: bytes) -> bytes | None: ...
    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None: ...


class Derivation:
    """Derives one journal. `app_id` prefixes the topics' names; a shard is a partition of the journal."""

    def __init__(
        self, positions: Positions, positions_topic: str, publisher: Publisher, app_id: str, metrics: Metrics
    ) -> None:
        self._positions = positions
        self._positions_topic = positions_topic
        self._publisher = publisher
        self._app_id = app_id
        self._metrics = metrics
        # By shard: the epoch in which it was read from the table, and the position since.
        self._stands: dict[int, tuple[int, Position]] = {}

    async def derive(self, chunk: Chunk, epoch: int) -> None:
        """Publish what a chunk changes. Raises MembershipLost; may be called again with the same chunk."""
        stand = self._stand(chunk.partition, epoch)
        if stand.offset < chunk.records[0].offset and stand == Position.beginning():
            logger.error(
                "%s begins at offset %d, and nothing says what lay before it: no batch can be told valid",
                chunk.topic,
                chunk.records[0].offset,
            )
        reader = JournalReader(stand)
        rows = await read_rows(chunk, reader)
        if reader.position == stand:
            return
        made = list(rows.by_topic())
        await asyncio.gather(
            *(self._publisher.publish(topic.full_name(self._app_id), some, epoch) for topic, some in made)
        )
        for topic, some in made:
            self._metrics.rows.labels(topic.name).inc(len(some))
        await self._store(chunk.partition, reader.position, epoch)

    def _stand(self, shard: int, epoch: int) -> Position:
        known = self._stands.get(shard)
        if known is not None and known[0] == epoch:
            return known[1]
        stored = self._positions.read(shard, str(shard).encode())
        return Position.beginning() if stored is None else decode_position(stored)

    async def _store(self, shard: int, position: Position, epoch: int) -> None:
        key, value = str(shard).encode(), encode_position(position)
        # The table's topic has a partition per shard, and so the row goes where the table looks for it.
        offsets = await self._publisher.publish(
            self._positions_topic, [(key, value)], epoch, to_partition=lambda _: shard
        )
        self._positions.write(shard, {key: value}, offsets[shard])
        self._stands[shard] = (epoch, position)
        self._metrics.derived_batch.set(position.batch)


async def read_rows(chunk: Chunk, reader: JournalReader) -> Rows:
    """The rows of the chunk's valid batches; moves the reader."""
    rows = Rows()
    batches = 0
    for record in chunk.records:
        entry = decode_record(record.value)
        if reader.feed(record.offset, entry) is Verdict.BATCH and entry is not None:
            rows.add(decode_decision(entry.payload))
            batches += 1
            if batches % BATCHES_PER_TURN == 0:
                await asyncio.sleep(0)
    return rows
