"""The envelope of a journal record, and the reader that decides which records are valid.

In: the bytes of the journal, in order, with their offsets. Out: a verdict for each record. Relay, takeover, the journal
agent, audit and rebuild all read through `JournalReader`, so that they agree on what was decided.

A batch is valid if its term and owner are those of the newest valid marker before it, its number is the last valid one
plus 1, and its previous token is the last valid token. A marker is valid if its term is higher than any before it: of
two markers with one term the second is void, and its owner tries again.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec
from msgspec import Struct

KIND_MARKER: Literal[0] = 0
KIND_BATCH: Literal[1] = 1


class JournalRecord(Struct, frozen=True, array_like=True):
    """One record of the journal. A marker has batch 0, no tokens and no payload.

    `payload` is msgpack of `tables.ledger.records.Decision`; the relay does not decode it.
    """

    kind: int
    term: int
    owner: str
    batch: int
    token: str
    previous: str
    payload: bytes


class Position(Struct, frozen=True, array_like=True):
    """A reader's state (rule R10): all that it needs to continue.

    `offset` is the one after the last valid record; `batch` and `token` are the last valid ones (0 and "" before the
    first), `term` and `owner` those of the newest valid marker.
    """

    offset: int
    term: int
    owner: str
    batch: int
    token: str

    @staticmethod
    def beginning() -> Position:
        """Before the first record of a journal."""
        return Position(0, 0, "", 0, "")


class RecordVerdict(Enum):
    """A valid batch, a valid marker, or a void record."""

    BATCH = "batch"
    MARKER = "marker"
    VOID = "void"


_ENCODER = msgspec.msgpack.Encoder()
_RECORD = msgspec.msgpack.Decoder(JournalRecord)
_POSITION = msgspec.msgpack.Decoder(Position)


def marker(term: int, owner: str) -> JournalRecord:
    """The record that begins an owner's term."""
    return JournalRecord(KIND_MARKER, term, owner, 0, "", "", b"")


def encode_record(record: JournalRecord) -> bytes:
    """The value of a Kafka record."""
    return _ENCODER.encode(record)


def decode_record(value: bytes | None) -> JournalRecord | None:
    """The record in `value`; None if it cannot be decoded: such a record is void."""
    if value is None:
        return None
    try:
        return _RECORD.decode(value)
    except msgspec.MsgspecError:
        return None


def encode_position(position: Position) -> bytes:
    """A position as msgpack."""
    return _ENCODER.encode(position)


def decode_position(value: bytes) -> Position:
    """The inverse of `encode_position`. Raises `msgspec.MsgspecError`."""
    return _POSITION.decode(value)


class JournalReader:
    """Validates the records of the journal from a position on.

    `position` advances with valid records, `next_offset` with every record.
    """

    def __init__(self, position: Position | None = None) -> None:
        self.position = position or Position.beginning()
        self.next_offset = self.position.offset

    def feed(self, offset: int, record: JournalRecord | None) -> RecordVerdict:
        """Validate the record at `offset`. Records come in the order of their offsets; one that came before, and one
        that could not be decoded (None), is void."""
        if offset < self.next_offset:
            return RecordVerdict.VOID
        self.next_offset = offset + 1
        if record is None:
            return RecordVerdict.VOID
        if record.kind == KIND_MARKER:
            return self._feed_marker(offset, record)
        if record.kind == KIND_BATCH:
            return self._feed_batch(offset, record)
        return RecordVerdict.VOID

    def _feed_marker(self, offset: int, record: JournalRecord) -> RecordVerdict:
        now = self.position
        if record.term <= now.term:
            return RecordVerdict.VOID
        self.position = Position(offset + 1, record.term, record.owner, now.batch, now.token)
        return RecordVerdict.MARKER

    def _feed_batch(self, offset: int, record: JournalRecord) -> RecordVerdict:
        now = self.position
        if record.term != now.term or record.owner != now.owner:
            return RecordVerdict.VOID
        if record.batch != now.batch + 1 or record.previous != now.token:
            return RecordVerdict.VOID
        self.position = Position(offset + 1, now.term, now.owner, record.batch, record.token)
        return RecordVerdict.BATCH
