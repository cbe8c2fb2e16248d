"""The batches of the journal that mention a SKU, read forward, or backward from the newest.

In: a log and where to begin. Out: decisions. A record is opened only where its bytes hold the SKU's name, which is what
makes a long journal quick to read.

Backward needs no landmark: every batch names the token of the one before it, and a token is drawn anew for each
attempt. So the record with that batch and token is the valid one, wherever void ones lie beside it (or a second copy of
the very same batch, sent by two owners). Whoever knows one batch that counts can go back from there to the head.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
from msgspec import Struct

from stocktide.errors import StocktideError
from stocktide.streams.journal.log import JournalLog, OutOfRange
from stocktide.streams.journal.record import (
    KIND_BATCH,
    JournalReader,
    JournalRecord,
    Position,
    RecordVerdict,
    decode_record,
)
from stocktide.tables.ledger.records import Decision, decode_decision, decode_decision_head
from stocktide.tables.recovery.journal_scan import READ_SECONDS_MAX, follow, is_position_in

# The first window; later ones hold about so many bytes, so that neither many small batches nor a few large ones make a
# window long in time or memory.
WINDOW_RECORDS_FIRST = 200
WINDOW_RECORDS_MAX = 20_000
WINDOW_BYTES = 8 * 1024 * 1024
# A window that turns out larger keeps its end, and the rest of it is read again.
WINDOW_BYTES_MAX = 32 * 1024 * 1024
# msgpack packs the length of a shorter string into the byte before it.
_SHORT_STRING_BYTES_MAX = 31


class JournalReadStalled(StocktideError):
    """The journal does not give what it is known to hold."""


class JournalCursor(Struct, frozen=True, array_like=True):
    """Where to read backward from: below `offset`, the next batch that counts is `batch` with `token`."""

    offset: int
    batch: int
    token: str

    @staticmethod
    def of(position: Position) -> JournalCursor:
        """Behind the last record that counted."""
        return JournalCursor(position.offset, position.batch, position.token)


class ReadBudget:
    """What one reading may cost. `bytes_max` of records, `seconds_max` of time; what is begun is ended."""

    def __init__(self, bytes_max: float, seconds_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_left = bytes_max
        self._clock = clock
        self._deadline = clock() + seconds_max

    def spend(self, bytes_read: int) -> None:
        """Note what was read."""
        self._bytes_left -= bytes_read

    @property
    def is_spent(self) -> bool:
        """Whether nothing more should be begun."""
        return self._bytes_left <= 0 or self._clock() >= self._deadline


def sku_pattern(sku: str) -> bytes:
    """Bytes that every batch holds that names the SKU."""
    name = sku.encode()
    return msgspec.msgpack.encode(sku) if len(name) <= _SHORT_STRING_BYTES_MAX else name


async def oldest_readable(log: JournalLog, positions: Iterable[Position]) -> Position | None:
    """The oldest place from which the journal can be read forward: its beginning, else the first of `positions`
    (ascending) that it still holds; None where there is none."""
    beginning, end = await log.bounds()
    if beginning == 0:
        return Position.beginning()
    for position in positions:
        if await is_position_in(log, position, beginning, end):
            return position
    return None


class Match(Struct, frozen=True):
    """A batch that mentions the SKU, and the term and owner under which it came into the journal. Reading backward
    from `again` gives it once more."""

    decision: Decision
    term: int
    owner: str
    again: JournalCursor


async def search_forward(log: JournalLog, reader: JournalReader, end: int, sku: str) -> AsyncIterator[Match]:
    """Each mention below `end`, oldest first. Raises what `tables.recovery.journal_scan.follow` raises."""
    needle = sku_pattern(sku)
    async for verdict, record in follow(log, reader, end):
        if verdict is RecordVerdict.BATCH and needle in record.payload:
            again = JournalCursor.of(reader.position)
            yield Match(decode_decision(record.payload), record.term, record.owner, again)


class BackwardSearch:
    """Reads the mentions of a SKU from `anchor` back to the journal's head.

    `anchor` moves with what was read; `ended`: the head was reached; `oldest_at`: the time (ms) of the oldest batch
    that was looked at, None while that is not known.
    """

    def __init__(self, log: JournalLog, anchor: JournalCursor, sku: str, budget: ReadBudget) -> None:
        self._log = log
        self._needle = sku_pattern(sku)
        self._budget = budget
        self._records = WINDOW_RECORDS_FIRST
        self.anchor = anchor
        self.ended = False
        self.oldest_at: int | None = None

    async def mentions(self) -> AsyncIterator[Match]:
        """Each mention, newest first.

        Ends at the head, or, after a window at the least, when the budget is spent. Raises JournalReadStalled.
        """
        beginning, end = await self._log.bounds()
        if self.anchor.offset > end:
            self.anchor = JournalCursor(end, self.anchor.batch, self.anchor.token)
        while self.anchor.batch > 0 and self.anchor.offset > beginning:
            window = await self._window(beginning)
            if window is None:
                break
            start, kept = window
            oldest: JournalRecord | None = None
            for offset, record in reversed(kept):
                if (record.batch, record.token) != (self.anchor.batch, self.anchor.token):
                    continue
                again = JournalCursor(offset + 1, record.batch, record.token)
                self.anchor = JournalCursor(offset, record.batch - 1, record.previous)
                oldest = record
                if self._needle in record.payload:
                    yield Match(decode_decision(record.payload), record.term, record.owner, again)
            if oldest is not None:
                self.oldest_at = decode_decision_head(oldest.payload).at
            self.anchor = JournalCursor(start, self.anchor.batch, self.anchor.token)
            if self._budget.is_spent and self.anchor.batch > 0 and start > beginning:
                return
        self.ended = True

    async def _window(self, beginning: int) -> tuple[int, deque[tuple[int, JournalRecord]]] | None:
        """Where the next window starts, and the batches in it by offset; None where the head aged out meanwhile."""
        start = at = max(beginning, self.anchor.offset - self._records)
        kept: deque[tuple[int, JournalRecord]] = deque()
        size = held = 0
        while at < self.anchor.offset:
            try:
                records = await self._log.read(at, READ_SECONDS_MAX)
            except OutOfRange:
                return None
            if not records:
                raise JournalReadStalled(f"the journal gives nothing at offset {at}")
            at = records[-1].offset + 1
            for record in records:
                entry = decode_record(record.value) if record.offset < self.anchor.offset else None
                if entry is None or entry.kind != KIND_BATCH:
                    continue
                size += len(entry.payload)
                held += len(entry.payload)
                kept.append((record.offset, entry))
                while held > WINDOW_BYTES_MAX and len(kept) > 1:
                    offset, gone = kept.popleft()
                    held -= len(gone.payload)
                    start = offset + 1
        self._budget.spend(size)
        fitting = self._records * WINDOW_BYTES // max(1, size)
        self._records = min(max(fitting, 1), WINDOW_RECORDS_MAX)
        return start, kept
