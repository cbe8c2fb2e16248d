"""The journal, read exactly as far as an audit asks.

In: the log of one shard, and a fold that stands somewhere in it. Out: the same fold as of the batch that was asked for:
the one at which Redis was read, which may not even have been written to the journal yet when it is asked for.
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

# A batch is in the journal some ms after it was decided; a takeover in between takes a second or two.
PROGRESS_TIMEOUT_SECONDS = 30.0
# One read waits this long for the journal to grow.
_READ_SECONDS = 1.0
# Batches folded before other work of the loop gets a turn.
_BATCHES_PER_TURN = 64


class AuditError(StocktideError):
    """The audit could not be finished; its text says why."""


ReportProgress = Callable[[str, int, int], None]


async def find_start(log: JournalLog, checkpoints: Checkpoints) -> Position:
    """Where to begin: the journal's beginning, or the place from which it holds every SKU and every open order whole,
    or, where nobody noted such a place yet, the oldest place that is known. Raises AuditError."""
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
    """Moves a fold along the journal; never back."""

    def __init__(self, log: JournalLog, fold: JournalFold, start: Position, report: ReportProgress) -> None:
        self._log = log
        self._fold = fold
        self._reader = JournalReader(start)
        self._report = report
        # Valid batches that were read and lie beyond the one that was asked for.
        self._ahead: deque[tuple[int, str, bytes]] = deque()
        self._token = start.token
        self.batches = 0
        self.bytes = 0

    @property
    def token(self) -> str:
        """The token of the batch at which the fold stands."""
        return self._token

    async def advance(self, batch: int, token: str | None = None) -> bool:
        """Bring the fold exactly to `batch`. False where the journal holds another batch under that number than the
        one with `token`: what was read with it never counted. Raises AuditError where the journal does not get there
        in time."""
        if batch < self._fold.batch:
            raise AuditError(f"the fold stands at batch {self._fold.batch} already, beyond {batch}")
        patience = time.monotonic() + PROGRESS_TIMEOUT_SECONDS
        while self._fold.batch < batch:
            if not self._ahead:
                if await self._read():
                    patience = time.monotonic() + PROGRESS_TIMEOUT_SECONDS
                elif time.monotonic() > patience:
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
        """Read on; whether there was anything."""
        try:
            records = await self._log.read(self._reader.next_offset, _READ_SECONDS)
        except OutOfRange as error:
            raise AuditError(f"the journal was trimmed while it was read: {error}") from error
        for record in records:
            entry = decode_record(record.value)
            if self._reader.feed(record.offset, entry) is RecordVerdict.BATCH and entry is not None:
                self._ahead.append((entry.batch, entry.token, entry.payload))
        return bool(records)
