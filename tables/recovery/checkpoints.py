"""Checkpoints of the journal: positions at which a reader may start, kept in the topic `journal-positions`.

In: batches as the journal agent reads them, or rows of that topic (one partition per shard). Out: rows, or
`Checkpoints`. A reader that starts in the middle of the journal needs the whole position there (rule R10), and the
journal's head ages out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition
from msgspec import Struct

from stocktide.streams.journal.record import Position, decode_position, encode_position
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.topics import JOURNAL_POSITIONS
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.raw_decision import RawDecision

# A search for one SKU reads the journal backwards, from milestone to milestone.
MILESTONE_BYTES = 16 * 1024 * 1024


class Checkpoints(Struct, frozen=True):
    """The checkpoints of one shard's journal.

    `derived`: the derived topics hold everything up to there. `whole`: from there on the journal holds a whole row of
    every SKU and every open order (None until a pass over all of them has ended: then only the whole journal does).
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
    """The key of the derived position."""
    return str(shard).encode()


def begun_key(shard: int) -> bytes:
    """The key of the position at which the current pass began."""
    return f"{shard}/begun".encode()


def whole_key(shard: int) -> bytes:
    """The key of the position at which the last complete pass began."""
    return f"{shard}/whole".encode()


def milestone_key(shard: int, position: Position) -> bytes:
    """The key of a milestone."""
    return f"{shard}@{position.offset:015d}".encode()


def decode_checkpoints(rows: Mapping[bytes, bytes], shard: int) -> Checkpoints:
    """The checkpoints among the newest rows of the topic; invalid rows are ignored."""
    positions: dict[bytes, Position] = {}
    for key, value in rows.items():
        try:
            positions[key] = decode_position(value)
        except msgspec.MsgspecError:
            continue
    start = f"{shard}@".encode()
    milestones = sorted((at for key, at in positions.items() if key.startswith(start)), key=lambda at: at.offset)
    return Checkpoints(positions.get(derived_key(shard)), positions.get(whole_key(shard)), tuple(milestones))


async def read_checkpoints(kafka: str, app_id: str, shard: int = 0, **security: Any) -> Checkpoints:
    """Read the checkpoints of `shard` from Kafka. Raises KafkaError."""
    partition = TopicPartition(JOURNAL_POSITIONS.full_name(app_id), shard)
    rows: dict[bytes, bytes] = {}
    async with topic_consumer(kafka, partition.topic, **security) as consumer:
        async for _, records in read_topic(consumer, await consumer.end_offsets([partition])):
            for record in records:
                if record.key is None:
                    continue
                if record.value is None:
                    rows.pop(record.key, None)
                else:
                    rows[record.key] = record.value
    return decode_checkpoints(rows, shard)


class CheckpointWriter:
    """Collects the checkpoint rows of a run of batches of one shard: milestones, and the starts of passes over all SKUs
    and orders (rule R9). `begun` is the start of the current pass, if known."""

    def __init__(self, shard: int, begun: Position | None = None, bytes_since: int = 0) -> None:
        self._shard = shard
        self._begun = begun
        self._rows: dict[bytes, bytes] = {}
        self._bytes_since = bytes_since

    @property
    def begun(self) -> Position | None:
        """The start of the current pass."""
        return self._begun

    @property
    def bytes_since(self) -> int:
        """Payload bytes since the last milestone."""
        return self._bytes_since

    def see(self, decision: RawDecision, payload_bytes: int, before: Position, after: Position) -> None:
        """Process a valid batch, with the reader's positions around it."""
        self._bytes_since += payload_bytes
        if self._bytes_since >= MILESTONE_BYTES:
            self._bytes_since = 0
            self._rows[milestone_key(self._shard, after)] = encode_position(after)
        for result in decision.results:
            if result.outcome == Outcome.RESTATED:
                self._see_page(result.detail or "", before)

    def _see_page(self, detail: str, before: Position) -> None:
        page, _, first = detail.partition(" ")
        if page in ("begun", "whole"):
            self._begun = before
            self._rows[begun_key(self._shard)] = encode_position(before)
        if page in ("ended", "whole") and self._begun is not None and self._begun.batch + 1 == int(first):
            self._rows[whole_key(self._shard)] = encode_position(self._begun)

    def rows(self) -> list[OutputRow]:
        """The rows to write."""
        return list(self._rows.items())
