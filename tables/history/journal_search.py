"""Searches the journal for the batches that name a SKU, forward, or backward from the newest.

In: a log and a start. Out: decisions. Only records whose bytes contain the SKU are decoded, which makes a long journal
fast to search.

The backward search needs no checkpoint: each batch names the token of the one before, and each attempt has a new token.
So the record with that batch and token is valid, even among invalid records (or copies of the same batch from two
owners), and any valid batch leads back to the head.
"""

from __future__ import annotations

import time
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
from stocktide.streams.kafka.backward import (
    WINDOW_BYTES_MAX,
    WINDOW_RECORDS_FIRST,
    Window,
    next_window_records,
)
from stocktide.tables.ledger.raw_decision import decode_decision, decode_decision_head
from stocktide.tables.ledger.records import Decision
from stocktide.tables.recovery.journal_scan import READ_SECONDS_MAX, follow, is_position_in

# Up to this length, msgpack packs a string's length into one byte before it.
_SHORT_STRING_BYTES_MAX = 31


class JournalReadStalled(StocktideError):
    """The journal returns no records before its known end."""


class JournalCursor(Struct, frozen=True, array_like=True):
    """A start for the backward search: below `offset`, the next valid batch is `batch` with `token`."""

    offset: int
    batch: int
    token: str

    @staticmethod
    def of(position: Position) -> JournalCursor:
        """The cursor after the last valid record before `position`."""
        return JournalCursor(position.offset, position.batch, position.token)


class ReadBudget:
    """The limits of one search: `bytes_max` of records, `seconds_max` of time. A window in progress is finished."""

    def __init__(self, bytes_max: float, seconds_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_left = bytes_max
        self._clock = clock
        self._deadline = clock() + seconds_max

    def spend(self, bytes_read: int) -> None:
        """Subtract the bytes read."""
        self._bytes_left -= bytes_read

    @property
    def is_spent(self) -> bool:
        """Whether a limit is reached."""
        return self._bytes_left <= 0 or self._clock() >= self._deadline


def sku_pattern(sku: str) -> bytes:
    """A byte string contained in each batch that names the SKU."""
    name = sku.encode()
    return msgspec.msgpack.encode(sku) if len(name) <= _SHORT_STRING_BYTES_MAX else name


async def oldest_readable(log: JournalLog, positions: Iterable[Position]) -> Position | None:
    """The oldest readable position: the journal's beginning if it is not trimmed, else the first of `positions`
    (ascending) that it still holds, or None."""
    beginning, end = await log.bounds()
    if beginning == 0:
        return Position.beginning()
    for position in positions:
        if await is_position_in(log, position, beginning, end):
            return position
    return None


class Match(Struct, frozen=True):
    """A batch that names the SKU, with the term and owner of its record. A backward search from `again` finds it
    again."""

    decision: Decision
    term: int
    owner: str
    again: JournalCursor


async def search_forward(log: JournalLog, reader: JournalReader, end: int, sku: str) -> AsyncIterator[Match]:
    """The matches below `end`, oldest first. Raises the errors of `tables.recovery.journal_scan.follow`."""
    pattern = sku_pattern(sku)
    async for verdict, record in follow(log, reader, end):
        if verdict is RecordVerdict.BATCH and pattern in record.payload:
            again = JournalCursor.of(reader.position)
            yield Match(decode_decision(record.payload), record.term, record.owner, again)


class BackwardSearch:
    """Searches a SKU from `anchor` back to the journal's head.

    `anchor` moves with the search; `ended`: the head was reached; `oldest_at`: the time (ms) of the oldest batch read,
    or None.
    """

    def __init__(self, log: JournalLog, anchor: JournalCursor, sku: str, budget: ReadBudget) -> None:
        self._log = log
        self._pattern = sku_pattern(sku)
        self._budget = budget
        self._records = WINDOW_RECORDS_FIRST
        self.anchor = anchor
        self.ended = False
        self.oldest_at: int | None = None

    async def mentions(self) -> AsyncIterator[Match]:
        """The matches, newest first.

        Ends at the head, or when the budget is spent after at least one window. Raises JournalReadStalled.
        """
        beginning, end = await self._log.bounds()
        if self.anchor.offset > end:
            self.anchor = JournalCursor(end, self.anchor.batch, self.anchor.token)
        while self.anchor.batch > 0 and self.anchor.offset > beginning:
            window = await self._window(beginning)
            if window is None:
                break
            oldest: JournalRecord | None = None
            for offset, record in reversed(window.kept):
                if (record.batch, record.token) != (self.anchor.batch, self.anchor.token):
                    continue
                again = JournalCursor(offset + 1, record.batch, record.token)
                self.anchor = JournalCursor(offset, record.batch - 1, record.previous)
                oldest = record
                if self._pattern in record.payload:
                    yield Match(decode_decision(record.payload), record.term, record.owner, again)
            if oldest is not None:
                self.oldest_at = decode_decision_head(oldest.payload).at
            self.anchor = JournalCursor(window.start, self.anchor.batch, self.anchor.token)
            if self._budget.is_spent and self.anchor.batch > 0 and window.start > beginning:
                return
        self.ended = True

    async def _window(self, beginning: int) -> Window[JournalRecord] | None:
        """The batches of the next window; None if the head was trimmed meanwhile."""
        window: Window[JournalRecord] = Window(max(beginning, self.anchor.offset - self._records), WINDOW_BYTES_MAX)
        at = window.start
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
                if entry is not None and entry.kind == KIND_BATCH:
                    window.add(record.offset, entry, len(entry.payload))
        self._budget.spend(window.bytes)
        self._records = next_window_records(self._records, window.bytes)
        return window
