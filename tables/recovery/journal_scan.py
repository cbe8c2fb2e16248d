"""The scan of the journal at a takeover: where to start, and all valid records up to the end.

In: the log, Redis's settled position, the checkpoints. Out: a `JournalScan`, whose reader is after the last valid
record, with the position and token of each batch read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable

from stocktide.errors import StocktideError
from stocktide.streams.journal.log import JournalLog, OutOfRange
from stocktide.streams.journal.record import (
    KIND_MARKER,
    JournalReader,
    JournalRecord,
    Position,
    RecordVerdict,
    decode_record,
)
from stocktide.tables.derived_rows import RebuildSource
from stocktide.tables.ledger.control import LedgerControl

_LOG = logging.getLogger(__name__)
# The broker returns existing records at once: this long without any, before the end, is an outage.
READ_SECONDS_MAX = 10.0
# Positions kept for comparison and settlement: far more than an outbox may hold.
_POSITIONS_MAX = 100_000


class TakeoverError(StocktideError):
    """The takeover failed, for the reason in the text; Redis stays unblessed."""


class Superseded(TakeoverError):
    """Another owner takes over, or Redis or the journal changed: try again if the shard is still assigned."""


class LostTail(TakeoverError):
    """The journal no longer holds the records that a recovery needs."""


class Fork(TakeoverError):
    """Redis and the journal contradict each other, and the journal cannot replace Redis's state."""


class JournalScan:
    """Reads the journal from `start`. `starts_at_settled`: that is the settled position that Redis stores."""

    def __init__(self, log: JournalLog, start: Position, starts_at_settled: bool) -> None:
        self._log = log
        self.start = start
        self.starts_at_settled = starts_at_settled
        self.reader = JournalReader(start)
        self.positions: deque[Position] = deque(maxlen=_POSITIONS_MAX)

    async def read_up_to(self, end: int) -> None:
        """Read every record below `end`. Raises TakeoverError."""
        async for _ in follow(self._log, self.reader, end):
            self.positions.append(self.reader.position)

    def position_of(self, batch: int, token: str) -> Position | None:
        """The position after `batch`, if the scan read it with that token."""
        found = next((each for each in (self.start, *self.positions) if each.batch == batch), None)
        return found if found is not None and found.token == token else None

    def tokens_between(self, settled: Position | None, batch: int) -> tuple[tuple[int, str], ...]:
        """(batch, token) of the batches after `settled`, up to `batch`."""
        first = settled.batch if settled else 0
        return tuple({at.batch: at.token for at in self.positions if first < at.batch <= batch}.items())

    def unsettled_after(self, settled: Position | None) -> tuple[Position, ...]:
        """The positions that Redis, settled up to `settled`, has not stored yet."""
        offset = settled.offset if settled else 0
        return tuple(position for position in self.positions if position.offset > offset)


async def start_scan(log: JournalLog, control: LedgerControl, source: RebuildSource) -> JournalScan:
    """Scan the journal to its current end, from the newest position at which a reader may start.

    Raises LostTail if the journal's head aged out and no checkpoint remains; Fork if this is not the journal in which
    Redis settled: Redis stores only positions that were read back.
    """
    settled = await control.settled()
    beginning, end = await log.bounds()
    if settled is not None and settled.offset >= beginning:
        if not await is_position_in(log, settled, beginning, end):
            raise Fork(_other_journal(settled, end))
        scan = JournalScan(log, settled, starts_at_settled=True)
    else:
        # An empty Redis, or one whose settled position aged out of the journal.
        checkpoints = (await source.checkpoints()).all() if end > beginning else ()
        scan = JournalScan(log, await newest_position_in(log, checkpoints), starts_at_settled=False)
    await scan.read_up_to(end)
    return scan


def _other_journal(settled: Position, end: int) -> str:
    return (
        f"Redis settled batch {settled.batch} at offset {settled.offset - 1} of the journal, which ends at {end} and "
        f"holds something else there: it is another journal, or one that lost its end. Point Stocktide at the right "
        f"Kafka, or bring the lost end back; or, to go on with what this journal holds, remove the keys of this app "
        f"from Redis: it is then rebuilt. Until then nothing is decided"
    )


async def newest_position_in(log: JournalLog, positions: Iterable[Position]) -> Position:
    """The newest of `positions` (ascending) in the journal, else the journal's beginning. Raises LostTail."""
    beginning, end = await log.bounds()
    for position in reversed(tuple(positions)):
        if await is_position_in(log, position, beginning, end):
            return position
    if beginning > 0:
        raise LostTail(
            f"the journal begins at offset {beginning}, and nothing says what lay before: the topic journal-positions "
            f"is gone too. Restore it from a backup, or start Redis again with its newest data. Until then nothing is "
            f"decided"
        )
    return Position.beginning()


async def is_position_in(log: JournalLog, position: Position, beginning: int, end: int) -> bool:
    """Whether `position` belongs to this journal, and a reader can continue from there."""
    if not beginning <= position.offset <= end:
        return False
    if position.offset == beginning:
        return position.offset > 0 or position == Position.beginning()  # the record before it has aged out
    try:
        records = await log.read(position.offset - 1, READ_SECONDS_MAX)
    except OutOfRange as error:
        raise Superseded(f"the journal changed while it was read: {error}") from error
    return bool(records) and _is_before(position, decode_record(records[0].value))


def _is_before(position: Position, record: JournalRecord | None) -> bool:
    """Whether `record` is the batch or the marker right before `position`."""
    if record is None or (record.term, record.owner) != (position.term, position.owner):
        return False
    return record.kind == KIND_MARKER or (record.batch, record.token) == (position.batch, position.token)


async def follow(
    log: JournalLog, reader: JournalReader, end: int
) -> AsyncIterator[tuple[RecordVerdict, JournalRecord]]:
    """Feed `reader` every record below `end`; gives the valid ones. Raises TakeoverError if reading stalls, Superseded
    if the journal was trimmed or replaced."""
    while reader.next_offset < end:
        try:
            records = await log.read(reader.next_offset, READ_SECONDS_MAX)
        except OutOfRange as error:
            raise Superseded(f"the journal changed while it was read: {error}") from error
        if not records:
            raise TakeoverError(f"the journal gives nothing at offset {reader.next_offset}, though it goes on to {end}")
        for record in records:
            if record.offset >= end:
                return
            entry = decode_record(record.value)
            verdict = reader.feed(record.offset, entry)
            if verdict is not RecordVerdict.VOID and entry is not None:
                yield verdict, entry
        await asyncio.sleep(0)  # let other tasks run
