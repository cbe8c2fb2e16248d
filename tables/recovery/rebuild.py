"""Bringing an unblessed Redis up to the journal: redo of what it lost, or all of it anew.

In: a log, a Redis that `unbless` found in some state, the batch and position up to which it has to come. Out: a Redis
that holds what the journal holds up to there; every step is checked on the server (rules R3, R4). Redo replays the
batches that Redis lost. A rebuild flushes, loads the rows of the derived topics (whole states), and then replays the
journal over them from where it holds every row whole (rule R9): whatever a late writer set back, it brings forward.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.log import JournalLog
from stocktide.streams.journal.record import JournalReader, Position, RecordVerdict
from stocktide.streams.topics import HOUR_MS
from stocktide.tables.derived_rows import RebuildSource
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.control import LedgerControl, RedoStep, ServerState, StepRefused
from stocktide.tables.ledger.records import decode_decision_head
from stocktide.tables.recovery.journal_scan import LostTail, Superseded, follow, newest_position_in
from stocktide.tables.recovery.redo import Writes, make_writes

_LOG = logging.getLogger(__name__)
# One step of redo: as much as one call of Lua writes within some ten ms, and one argument holds.
_STEP_BYTES = 1024 * 1024
_STEP_BATCHES_MAX = 500
# Keys that one step of a flush looks at.
_FLUSH_KEYS = 5_000
# Movements that one step loads: four fields of a hash each, some ten ms.
_MOVES_STEP = 5_000
# A count may be as of 24 hours ago, and a movement may be dated an hour ahead
# (tables/ledger/lua/includes/move_keys.lua).
_MOVES_MS = 25 * HOUR_MS
# How often a person is told how far it is.
_REPORT_SECONDS = 2.0


class RecoveryProgress(Struct, frozen=True):
    """How far a recovery is: `phase` is `redo`, `flush`, `rows`, `moves` or `journal`; `total` 0: not known."""

    phase: str
    done: int
    total: int


Report = Callable[[RecoveryProgress], None]


class ProgressReporter:
    """Keeps the newest progress for whoever asks, and puts it into the log now and then."""

    def __init__(self, tell: Report | None = None) -> None:
        self.now: RecoveryProgress | None = None
        self._tell = tell or _log
        self._next = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.now = RecoveryProgress(phase, done, total)
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + _REPORT_SECONDS
            self._tell(self.now)

    def clear(self) -> None:
        """The recovery is over."""
        self.now = None
        self._next = 0.0


_WORDS = {
    "redo": "redo: %d of %d batches that Redis lost",
    "flush": "rebuild: %d keys forgotten",
    "moves": "rebuild: %d movements of the last day read",
    "rows": "rebuild: %d of %d rows read",
    "journal": "rebuild: %d of %d batches of the journal replayed",
}


def _log(progress: RecoveryProgress) -> None:
    counts = (progress.done, progress.total) if "of" in _WORDS[progress.phase] else (progress.done,)
    _LOG.info(_WORDS[progress.phase], *counts)


class Recovery:
    """One recovery of one server: `term` and `seen` are those of its `unbless`."""

    def __init__(
        self,
        log: JournalLog,
        handover: LedgerControl,
        term: int,
        seen: ServerState,
        limits: LedgerLimits,
        report: ProgressReporter,
    ) -> None:
        self._log = log
        self._handover = handover
        self._term = term
        self._seen = seen
        self._limits = limits
        self._report = report

    async def redo(
        self, stand: Position, end: Position, told: tuple[tuple[int, str], ...], phase: str = "redo"
    ) -> None:
        """Replay the batches after `stand`, where Redis is, up to `end`. `told` are those up to `stand` that nobody
        was told to be settled. Raises Superseded, and what the log and Redis raise."""
        reader = JournalReader(stand)
        step = _Step(self._limits, stand, told)
        total, first = end.batch - stand.batch, stand.batch
        async for verdict, entry in follow(self._log, reader, end.offset):
            if verdict is not RecordVerdict.BATCH:
                continue
            step.add(entry.payload, reader.position)
            if step.is_full:
                await self._replay(step)
                self._report(phase, reader.position.batch - first, total)
                step = _Step(self._limits, reader.position, ())
        if reader.position.batch != end.batch or reader.position.token != end.token:
            raise Superseded(f"the journal leads to batch {reader.position.batch}, and led to {end.batch}")
        if step.batches or step.told:
            await self._replay(step)
        self._report(phase, total, total)

    async def rebuild(self, end: Position, source: RebuildSource) -> None:
        """Flush, load the rows, replay the journal over them up to `end`. Raises LostTail, Superseded, and what the
        log, the source and Redis raise."""
        await self._forget()
        checkpoints = await source.checkpoints()
        whole = (checkpoints.whole,) if checkpoints.whole else ()
        beginning, _ = await self._log.bounds()
        if beginning == 0 and not whole:
            start = Position.beginning()
        elif whole:
            start = await newest_position_in(self._log, whole)
        else:
            start = await self._oldest(checkpoints.all())
        if start.batch > end.batch:
            raise Superseded(f"the journal is derived up to batch {start.batch}, beyond {end.batch}")
        if start.batch:
            await self._load(start, end, source, checkpoints.all())
        await self.redo(start, end, (), "journal")

    async def _oldest(self, positions: tuple[Position, ...]) -> Position:
        """Where to start in a journal that was cut off elsewhere than by us."""
        beginning, _ = await self._log.bounds()
        kept = [position for position in positions if position.offset >= beginning]
        if not kept:
            raise LostTail(f"the journal begins at offset {beginning}, and nothing says what lay before")
        _LOG.warning(
            "the journal begins at offset %d and does not hold every row whole: a row that a late writer set back "
            "before then stays so; `stocktide audit` tells",
            beginning,
        )
        return await newest_position_in(self._log, kept[:1])

    async def _forget(self) -> None:
        cursor, looked_at = 0, 0
        while True:
            answer = await self._handover.flush(self._term, self._seen, cursor, _FLUSH_KEYS)
            if isinstance(answer, StepRefused):
                raise self._superseded(answer)
            cursor, looked_at = answer, looked_at + _FLUSH_KEYS
            if cursor == 0:
                return
            self._report("flush", looked_at, 0)

    async def _load(self, start: Position, end: Position, source: RebuildSource, known: Sequence[Position]) -> None:
        at_ms = now_ms()
        rows = source.rows(("sku", "order", "movement"), lambda done, total: self._report("rows", done, total))
        async for chunk in rows:
            beyond = max((row.batch for row in chunk), default=0)
            if beyond > end.batch:
                raise Superseded(f"a row is of batch {beyond}, beyond {end.batch}: another owner was faster")
            await self._put(make_writes(chunk, self._limits, at_ms).packed(), None)
        await self._load_moves(start, [position for position in known if position.offset < start.offset])
        await self._put(Writes(self._limits).packed(), start)

    async def _load_moves(self, start: Position, earlier: Sequence[Position]) -> None:
        """What moved in the last day before `start`: no row holds it, and late counts ask for it (rule 41)."""
        first_at = await self._first_at(start)
        begin, floor = await self._moves_from((now_ms() if first_at is None else first_at) - _MOVES_MS, earlier, start)
        writes, done = Writes(self._limits), 0
        if floor is not None:
            writes.forget_moves_before(floor)
        async for verdict, entry in follow(self._log, JournalReader(begin), start.offset):
            if verdict is RecordVerdict.BATCH:
                writes.add_moves(entry.payload)
            if writes.moves >= _MOVES_STEP:
                done += writes.moves
                await self._put(writes.packed(), None)
                self._report("moves", done, 0)
                writes = Writes(self._limits)
        await self._put(writes.packed(), None)

    async def _moves_from(
        self, since_ms: int, earlier: Sequence[Position], start: Position
    ) -> tuple[Position, int | None]:
        """Where to begin to read what moved since `since_ms`; and the time before which that leaves a gap, if it does:
        the journal does not reach back so far."""
        beginning, _ = await self._log.bounds()
        kept = [position for position in earlier if position.offset >= beginning]
        low, high = 0, len(kept)  # the ledger's time only grows: those before `low` lie before `since_ms`
        while low < high:
            middle = (low + high) // 2
            at = await self._first_at(kept[middle])
            low, high = (middle + 1, high) if at is not None and at <= since_ms else (low, middle)
        if low:
            return await newest_position_in(self._log, kept[:low]), None
        if beginning == 0:
            return Position.beginning(), None
        begin = kept[0] if kept else start
        first_at = await self._first_at(begin)
        return begin, (now_ms() if first_at is None else first_at) + self._limits.future_ms

    async def _first_at(self, position: Position) -> int | None:
        """When the first batch at or after `position` was decided, ms; None where there is none."""
        _, end = await self._log.bounds()
        async for verdict, entry in follow(self._log, JournalReader(position), end):
            if verdict is RecordVerdict.BATCH:
                return decode_decision_head(entry.payload).at
        return None

    async def _put(self, writes: tuple[bytes, ...], position: Position | None) -> None:
        refused = await self._handover.load(self._term, self._seen, writes, position)
        if refused is not None:
            raise self._superseded(refused)

    async def _replay(self, step: _Step) -> None:
        refused = await self._handover.replay(self._term, self._seen, step.packed())
        if refused is not None:
            raise self._superseded(refused)

    def _superseded(self, refused: StepRefused) -> Superseded:
        return Superseded(f"while term {self._term} brought Redis back, it changed: {refused.reason}")


class _Step:
    """Batches that are replayed together. What they write is whole: of a key only its newest state is written."""

    def __init__(self, limits: LedgerLimits, stand: Position, told: tuple[tuple[int, str], ...]) -> None:
        self._stand = stand
        self._writes = Writes(limits)
        self._position = stand
        self.told = list(told)
        self.batches = 0
        self._payload_bytes = 0

    @property
    def is_full(self) -> bool:
        return self.batches >= _STEP_BATCHES_MAX or self._payload_bytes >= _STEP_BYTES

    def add(self, payload: bytes, position: Position) -> None:
        self._writes.add(payload)
        self._payload_bytes += len(payload)
        self._position = position
        self.told.append((position.batch, position.token))
        self.batches += 1

    def packed(self) -> RedoStep:
        stand, writes = self._stand, self._writes
        return RedoStep(stand.batch, stand.token, self._position, writes.at, tuple(self.told), writes.packed())
