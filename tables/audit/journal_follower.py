"""Advances the fold of the journal exactly to a given batch.

In: the log of one shard, and its fold. Out: the fold as of the batch at which Redis was read, which may not be in the
journal yet when it is requested.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from stocktide.errors import StocktideError
from stocktide.streams.journal.log import JournalLog, OutOfRange
from stocktide.streams.journal.record import JournalReader, Position, RecordVerdict, decode_record
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.recovery.checkpoints import Checkpoints
from stocktide.tables.recovery.journal_scan import LostTail, TakeoverError, newest_position_in

# A batch reaches the journal some ms after its decision; a takeover in between takes a second or two.
PROGRESS_TIMEOUT_SECONDS = 30.0
# How long one read waits for records.
_READ_SECONDS = 1.0
# Batches folded before the event loop runs other tasks.
_BATCHES_PER_TURN = 64


class AuditError(StocktideError):
    """The audit could not be finished; the message gives the reason."""


# (phase, done, total): `base`, `journal`, `redis`, `names`, `holds`, `suspects`, `rows`, `rows in flight`.
ReportProgress = Callable[[str, int, int], None]


async def find_start(log: JournalLog, checkpoints: Checkpoints) -> Position:
    """The start of the fold: the journal's beginning; else the position from which the journal holds all SKUs and open
    orders whole; else the oldest checkpoint. Raises AuditError."""
    try:
        beginning, end = await log.bounds()
        if beginning == 0:
            return Position.beginning()
        if checkpoints.whole is not None and checkpoints.whole.offset >= beginning:
            return await newest_position_in(log, (checkpoints.whole,))
        kept = [position for position in checkpoints.all() if beginning <= position.offset <= end]
        return await newest_position_in(log, kept[:1])
    except (LostTail, TakeoverError) as error:
        raise AuditError(f"the journal cannot be read from where it is known: {error}") from error


class JournalFollower:
    """Moves a fold forward along the journal."""

    def __init__(self, log: JournalLog, fold: JournalFold, start: Position, report: ReportProgress) -> None:
        self._log = log
        self._fold = fold
        self._reader = JournalReader(start)
        self._report = report
        # Valid batches that were read but not folded yet.
        self._ahead: deque[tuple[int, str, bytes]] = deque()
        self._token = start.token
        self.batches = 0
        self.bytes = 0

    async def advance(self, batch: int, token: str | None = None) -> bool:
        """Advance the fold exactly to `batch`. False if the journal's batch of that number does not have `token`: the
        one with `token` was never valid. Raises AuditError if the journal does not reach it in time."""
        if batch < self._fold.batch:
            raise AuditError(f"the fold is already at batch {self._fold.batch}, beyond {batch}")
        deadline = time.monotonic() + PROGRESS_TIMEOUT_SECONDS
        while self._fold.batch < batch:
            if not self._ahead:
                if await self._read():
                    deadline = time.monotonic() + PROGRESS_TIMEOUT_SECONDS
                elif time.monotonic() > deadline:
                    raise AuditError(
                        f"batch {batch} is not in the journal after {PROGRESS_TIMEOUT_SECONDS:.0f} s, it ends at "
                        f"{self._fold.batch}: does a worker run?"
                    )
            await self._fold_up_to(batch)
        return token is None or token == self._token

    async def _fold_up_to(self, batch: int) -> None:
        while self._ahead and self._fold.batch < batch:
            _, self._token, payload = self._ahead.popleft()
            self._fold.add(payload)
            self.batches += 1
            self.bytes += len(payload)
            if self.batches % _BATCHES_PER_TURN == 0:
                await asyncio.sleep(0)
        self._report("journal", self._fold.batch, batch)

    async def _read(self) -> bool:
        """Read more records; returns whether there were any."""
        try:
            records = await self._log.read(self._reader.next_offset, _READ_SECONDS)
        except OutOfRange as error:
            raise AuditError(f"the journal was trimmed while it was read: {error}") from error
        for record in records:
            entry = decode_record(record.value)
            if self._reader.feed(record.offset, entry) is RecordVerdict.BATCH and entry is not None:
                self._ahead.append((entry.batch, entry.token, entry.payload))
        return bool(records)
