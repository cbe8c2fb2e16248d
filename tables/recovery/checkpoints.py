"""Where a reader of the journal may start: positions that the journal agent keeps in the topic `journal-positions`.

In: rows of that topic, one partition per shard. Out: `Checkpoints`. A reader that starts in the middle of the journal
has to know what lay before (rule R10), and the journal's own head ages out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.streams.journal.record import Position, decode_position
from stocktide.streams.topics import JOURNAL_POSITIONS

# One partition of small rows, compacted: it is read within moments or not at all.
_READ_MS = 1_000
_SILENT_READS_MAX = 20


class Checkpoints(Struct, frozen=True):
    """What is known of one shard's journal.

    `derived`: all of it up to there is in the derived topics. `whole`: from there on the journal holds every SKU and
    every open order whole (None while no pass over all of them has ended: then only the whole journal does).
    `milestones`: others, ascending.
    """

    derived: Position | None = None
    whole: Position | None = None
    milestones: tuple[Position, ...] = ()

    def all(self) -> tuple[Position, ...]:
        """Every position, ascending."""
        known = {position.offset: position for position in (*self.milestones, self.whole, self.derived) if position}
        return tuple(known[offset] for offset in sorted(known))


def derived_key(shard: int) -> bytes:
    """The row of how far a shard was derived."""
    return str(shard).encode()


def begun_key(shard: int) -> bytes:
    """The row of where the pass began that is under way."""
    return f"{shard}/begun".encode()


def whole_key(shard: int) -> bytes:
    """The row of where the last pass began that ended."""
    return f"{shard}/whole".encode()


def milestone_key(shard: int, position: Position) -> bytes:
    """The row of a milestone."""
    return f"{shard}@{position.offset:015d}".encode()


def decode_checkpoints(rows: Mapping[bytes, bytes], shard: int) -> Checkpoints:
    """The checkpoints among the newest rows. What cannot be decoded is none."""
    positions: dict[bytes, Position] = {}
    for key, value in rows.items():
        try:
            positions[key] = decode_position(value)
        except msgspec.MsgspecError:
            continue
    start = f"{shard}@".encode()
    milestones = sorted((at for key, at in positions.items() if key.startswith(start)), key=lambda at: at.offset)
    return Checkpoints(positions.get(derived_key(shard)), positions.get(whole_key(shard)), tuple(milestones))


async def read_checkpoints(kafka: str, app_id: str, shard: int = 0, **security: object) -> Checkpoints:
    """Read the topic as it is now. Raises KafkaError."""
    partition = TopicPartition(JOURNAL_POSITIONS.full_name(app_id), shard)
    consumer = AIOKafkaConsumer(
        **{"bootstrap_servers": kafka, **security},
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        return decode_checkpoints(await _rows(consumer, partition, end), shard)
    finally:
        await consumer.stop()


async def _rows(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    silent = 0
    while await consumer.position(partition) < end:
        fetched = await consumer.getmany(partition, timeout_ms=_READ_MS)
        silent = 0 if fetched else silent + 1
        if silent > _SILENT_READS_MAX:
            raise KafkaError(f"{partition.topic} gives nothing, though it goes on to {end}")
        for record in fetched.get(partition, ()):
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
    return rows
