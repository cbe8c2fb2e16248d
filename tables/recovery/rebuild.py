"""Brings an unblessed Redis up to the journal, by a redo or a rebuild.

In: a log, an unblessed Redis, the position to reach. Out: a Redis in the journal's state at that position; the server
checks every step (rules R3, R4). A redo writes the batches that Redis lost. A rebuild flushes Redis, loads the rows of
the derived topics (whole states), and redoes the journal from where it holds every row whole (rule R9): that repairs
any row that a late writer set back.
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
from stocktide.tables.ledger.control import LedgerControl, RedoStep, ServerState, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.raw_decision import decode_decision_head
from stocktide.tables.recovery.journal_scan import LostTail, Superseded, follow, newest_position_in
from stocktide.tables.recovery.redo import Writes, make_writes

_LOG = logging.getLogger(__name__)
# One step of redo: one Lua call of some ten ms.
_STEP_BYTES = 1024 * 1024
_STEP_BATCHES_MAX = 500
# Keys that one step of a flush examines.
_FLUSH_KEYS = 5_000
# Movements that one step loads: some ten ms.
_MOVEMENTS_PER_STEP = 5_000
# A count may be as of 24 hours ago, and a movement may be dated an hour ahead
# (tables/ledger/lua/includes/move_keys.lua).
_MOVEMENTS_MS = 25 * HOUR_MS
_REPORT_SECONDS = 2.0
_LOG_FORMATS = {
    "redo": "redo: %d of %d batches that Redis lost",
    "flush": "rebuild: %d keys forgotten",
    "moves": "rebuild: %d movements of the last day read",
    "rows": "rebuild: %d of %d rows read",
    "journal": "rebuild: %d of %d batches of the journal replayed",
}


class RecoveryProgress(Struct, frozen=True):
    """The progress of a recovery. `phase` is a key of `_LOG_FORMATS`; `total` 0: unknown."""

    phase: str
    done: int
    total: int


Report = Callable[[RecoveryProgress], None]


class ProgressReporter:
    """Keeps the newest progress, and logs it or calls `report` every _REPORT_SECONDS."""

    def __init__(self, report: Report | None = None) -> None:
        self.now: RecoveryProgress | None = None
        self._report = report or _log
        self._next = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.now = RecoveryProgress(phase, done, total)
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + _REPORT_SECONDS
            self._report(self.now)

    def clear(self) -> None:
        """Reset after the recovery."""
        self.now = None
        self._next = 0.0


def _log(progress: RecoveryProgress) -> None:
    text = _LOG_FORMATS[progress.phase]
    _LOG.info(text, *(progress.done, progress.total)[: text.count("%d")])


class Recovery:
    """One recovery of one server: `term` and `seen` are those of its `unbless`."""

    def __init__(
        self,
        log: JournalLog,
        control: LedgerControl,
        term: int,
        seen: ServerState,
        limits: LedgerLimits,
        report: ProgressReporter,
    ) -> None:
        self._log = log
        self._control = control
        self._term = term
        self._seen = seen
        self._limits = limits
        self._report = report

    async def redo(
        self, start: Position, end: Position, unannounced: tuple[tuple[int, str], ...], phase: str = "redo"
    ) -> None:
        """Redo the batches after `start`, Redis's newest one, up to `end`. `unannounced` are those up to `start`
        whose settlement was not published. Raises Superseded, and the errors of log and Redis."""
        reader = JournalReader(start)
        step = _Step(self._limits, start, unannounced)
        total, first = end.batch - start.batch, start.batch
        async for verdict, record in follow(self._log, reader, end.offset):
            if verdict is not RecordVerdict.BATCH:
                continue
            step.add(record.payload, reader.position)
            if step.is_full:
                await self._redo_step(step)
                self._report(phase, reader.position.batch - first, total)
                step = _Step(self._limits, reader.position, ())
        if reader.position.batch != end.batch or reader.position.token != end.token:
            raise Superseded(f"the journal leads to batch {reader.position.batch}, and led to {end.batch}")
        if step.batches or step.unannounced:
            await self._redo_step(step)
        self._report(phase, total, total)

    async def rebuild(self, end: Position, source: RebuildSource) -> None:
        """Flush, load the rows, redo the journal up to `end`. Raises LostTail, Superseded, and the errors of log,
        source and Redis."""
        await self._flush()
        checkpoints = await source.checkpoints()
        whole = (checkpoints.whole,) if checkpoints.whole else ()
        beginning, _ = await self._log.bounds()
        if beginning == 0 and not whole:
            start = Position.beginning()
        elif whole:
            start = await newest_position_in(self._log, whole)
        else:
            start = await self._oldest_usable(checkpoints.all())
        if start.batch > end.batch:
            raise Superseded(f"the journal is derived up to batch {start.batch}, beyond {end.batch}")
        if start.batch:
            await self._load_rows(start, end, source, checkpoints.all())
        await self.redo(start, end, (), "journal")

    async def _oldest_usable(self, positions: tuple[Position, ...]) -> Position:
        """The oldest usable position in a journal whose head was deleted by others than our trimming."""
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

    async def _flush(self) -> None:
        cursor, examined = 0, 0
        while True:
            answer = await self._control.flush(self._term, self._seen, cursor, _FLUSH_KEYS)
            if isinstance(answer, StepRefused):
                raise self._superseded(answer)
            cursor, examined = answer, examined + _FLUSH_KEYS
            if cursor == 0:
                return
            self._report("flush", examined, 0)

    async def _load_rows(
        self, start: Position, end: Position, source: RebuildSource, known: Sequence[Position]
    ) -> None:
        at_ms = now_ms()
        rows = source.rows(("sku", "order", "movement"), lambda done, total: self._report("rows", done, total))
        async for chunk in rows:
            beyond = max((row.batch for row in chunk), default=0)
            if beyond > end.batch:
                raise Superseded(f"a row is of batch {beyond}, beyond {end.batch}: another owner was faster")
            await self._load_step(make_writes(chunk, self._limits, at_ms).packed(), None)
        await self._load_movements(start, [position for position in known if position.offset < start.offset])
        await self._load_step(Writes(self._limits).packed(), start)

    async def _load_movements(self, start: Position, earlier: Sequence[Position]) -> None:
        """Load the movements of the day before `start`: no row holds them, and late counts need them (rule 41)."""
        first_at = await self._first_decided_at(start)
        since_ms = (now_ms() if first_at is None else first_at) - _MOVEMENTS_MS
        begin, floor = await self._find_movements_start(since_ms, earlier, start)
        writes, done = Writes(self._limits), 0
        if floor is not None:
            writes.forget_moves_before(floor)
        async for verdict, record in follow(self._log, JournalReader(begin), start.offset):
            if verdict is RecordVerdict.BATCH:
                writes.add_moves(record.payload)
            if writes.moves >= _MOVEMENTS_PER_STEP:
                done += writes.moves
                await self._load_step(writes.packed(), None)
                self._report("moves", done, 0)
                writes = Writes(self._limits)
        await self._load_step(writes.packed(), None)

    async def _find_movements_start(
        self, since_ms: int, earlier: Sequence[Position], start: Position
    ) -> tuple[Position, int | None]:
        """The position from which to read the movements since `since_ms`; and, if the journal does not reach back so
        far, the time before which movements are unknown."""
        beginning, _ = await self._log.bounds()
        kept = [position for position in earlier if position.offset >= beginning]
        low, high = 0, len(kept)  # the ledger's time never decreases: positions before `low` are before `since_ms`
        while low < high:
            middle = (low + high) // 2
            at = await self._first_decided_at(kept[middle])
            low, high = (middle + 1, high) if at is not None and at <= since_ms else (low, middle)
        if low:
            return await newest_position_in(self._log, kept[:low]), None
        if beginning == 0:
            return Position.beginning(), None
        begin = kept[0] if kept else start
        first_at = await self._first_decided_at(begin)
        return begin, (now_ms() if first_at is None else first_at) + self._limits.future_ms

    async def _first_decided_at(self, position: Position) -> int | None:
        """The time of the first batch after `position`, ms; None if there is none."""
        _, end = await self._log.bounds()
        async for verdict, record in follow(self._log, JournalReader(position), end):
            if verdict is RecordVerdict.BATCH:
                return decode_decision_head(record.payload).at
        return None

    async def _load_step(self, writes: tuple[bytes, ...], position: Position | None) -> None:
        refused = await self._control.load(self._term, self._seen, writes, position)
        if refused is not None:
            raise self._superseded(refused)

    async def _redo_step(self, step: _Step) -> None:
        refused = await self._control.redo(self._term, self._seen, step.packed())
        if refused is not None:
            raise self._superseded(refused)

    def _superseded(self, refused: StepRefused) -> Superseded:
        return Superseded(f"while term {self._term} brought Redis back, it changed: {refused.reason}")


class _Step:
    """Batches that are redone together: of each key only its newest state is written."""

    def __init__(self, limits: LedgerLimits, start: Position, unannounced: tuple[tuple[int, str], ...]) -> None:
        self._start = start
        self._writes = Writes(limits)
        self._position = start
        self.unannounced = list(unannounced)
        self.batches = 0
        self._payload_bytes = 0

    @property
    def is_full(self) -> bool:
        return self.batches >= _STEP_BATCHES_MAX or self._payload_bytes >= _STEP_BYTES

    def add(self, payload: bytes, position: Position) -> None:
        self._writes.add(payload)
        self._payload_bytes += len(payload)
        self._position = position
        self.unannounced.append((position.batch, position.token))
        self.batches += 1

    def packed(self) -> RedoStep:
        start, writes = self._start, self._writes
        return RedoStep(start.batch, start.token, self._position, writes.at, tuple(self.unannounced), writes.packed())
