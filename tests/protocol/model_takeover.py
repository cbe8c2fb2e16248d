"""A takeover in the model, step by step as `tables.recovery.takeover`, `tables.recovery.journal_scan` and
`tables.recovery.rebuild` do it.

At every `yield` any other actor may take steps, or the process stop for good.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from msgspec import Struct

from stocktide.streams.journal.record import JournalReader, JournalRecord, Position, RecordVerdict, marker
from stocktide.tables.ledger.control import Refusal, ServerState
from tests.protocol.model_journal import reader_from
from tests.protocol.model_ledger import Rows
from tests.protocol.model_redis import RedoStep

if TYPE_CHECKING:
    from tests.protocol.model import World
    from tests.protocol.model_owner import Owner

TRIES_MAX = 8
READ_MAX = 12
REDONE_MAX = 3


class TakeoverFailed(Exception):
    """The takeover did not bless the server, or the lease is over: begin again."""


class ModelLease(Struct, frozen=True):
    """As `tables.recovery.takeover.Lease`."""

    term: int
    position: Position
    unsettled: tuple[Position, ...]


class ModelJournalScan:
    """As `tables.recovery.journal_scan.Walk`."""

    def __init__(self, start: Position, starts_at_settled: bool, reader: JournalReader) -> None:
        self.start = start
        self.starts_at_settled = starts_at_settled
        self.reader = reader
        self.positions: list[Position] = []

    def position_of(self, batch: int, token: str, compares: bool = True) -> Position | None:
        """The position after that batch, if the scan found it with that token."""
        found = next((each for each in (self.start, *self.positions) if each.batch == batch), None)
        return found if found is not None and (found.token == token or not compares) else None

    def unsettled_after(self, settled: Position | None) -> tuple[Position, ...]:
        """The positions that Redis has not settled yet."""
        offset = settled.offset if settled else 0
        return tuple(position for position in self.positions if position.offset > offset)


class ModelTakeover:
    """One owner's takeovers. Each step runs on the server that the owner is connected to at that time."""

    def __init__(self, world: World, owner: Owner) -> None:
        self._world = world
        self._owner = owner
        self._rules = world.rules
        self.term = 0  # of the newest recovery of this owner

    def run(self) -> Generator[None, None, ModelLease]:
        """Raises TakeoverFailed."""
        for _ in range(TRIES_MAX):
            scan = yield from self._scan_to_own_marker()
            if scan is None:
                continue
            yield
            seen = self._owner.server.unbless(self.term)
            if isinstance(seen, Refusal):
                raise TakeoverFailed(seen)
            if scan.starts_at_settled and (seen.settled is None or seen.settled.batch < scan.start.batch):
                continue
            settled = yield from self._bring_up(seen, scan)
            return ModelLease(self.term, scan.reader.position, scan.unsettled_after(settled))
        raise TakeoverFailed("faster owners")

    def _scan_to_own_marker(self) -> Generator[None, None, ModelJournalScan | None]:
        scan = yield from self._begin_scan()
        yield
        blessed = self._owner.server.state.blessed
        now = scan.reader.position
        if not self._rules.recovery_has_a_new_term and (now.term, now.owner) == (self.term, self._owner.name):
            return scan
        self.term = max(now.term, blessed.term if blessed else 0) + 1
        sent = self._owner.send(marker(self.term, self._owner.name))
        while sent.offset is None:
            if sent.failed:
                raise TakeoverFailed("the marker was not appended")
            yield
        yield from self._read(scan.reader, sent.offset + 1, scan.positions)
        now = scan.reader.position
        won = (now.term, now.owner, now.offset) == (self.term, self._owner.name, sent.offset + 1)
        return scan if won or not self._rules.lost_marker_is_tried_again else None

    def _begin_scan(self) -> Generator[None, None, ModelJournalScan]:
        yield
        journal = self._world.journal
        settled = self._owner.server.state.settled
        yield
        if settled is not None and settled.offset >= journal.first:
            if not journal.holds(settled):
                raise TakeoverFailed("another journal")
            scan = ModelJournalScan(settled, True, reader_from(settled, self._rules))
        else:
            start = self._newest(self._world.table.checkpoints() if journal.end > journal.first else [])
            scan = ModelJournalScan(start, False, reader_from(start, self._rules))
        yield from self._read(scan.reader, journal.end, scan.positions)
        return scan

    def _newest(self, positions: list[Position]) -> Position:
        found = next((each for each in reversed(positions) if self._world.journal.holds(each)), None)
        if found is None and self._world.journal.first:
            raise TakeoverFailed("no checkpoint covers the journal's lost head")
        return found or Position.beginning()

    def _read(
        self, reader: JournalReader, end: int, positions: list[Position], records: list[JournalRecord] | None = None
    ) -> Generator[None, None, None]:
        """Feed every record below `end`. Adds the positions after valid records, and the batches to `records`."""
        journal = self._world.journal
        while reader.next_offset < end:
            yield
            if reader.next_offset < journal.first:
                raise TakeoverFailed("the journal changed while it was read")
            for offset in range(reader.next_offset, min(end, reader.next_offset + 1 + self._world.draw(READ_MAX))):
                verdict = reader.feed(offset, journal.records[offset])
                if verdict is not RecordVerdict.VOID and (records is None or verdict is RecordVerdict.BATCH):
                    positions.append(reader.position)
                    if records is not None:
                        records.append(journal.records[offset])

    def _bring_up(self, seen: ServerState, scan: ModelJournalScan) -> Generator[None, None, Position | None]:
        last, settled, fork = scan.reader.position, seen.settled, False
        gap = scan.start.batch > (settled.batch if settled else 0) and self._rules.scan_begins_where_redis_is_settled
        if 0 < seen.batch < last.batch or (gap and seen.batch == last.batch):
            found = scan.position_of(seen.batch, seen.token, self._rules.takeover_compares_the_token)
            if found is None:
                fork = True
            else:
                first = settled.batch if settled else 0
                unsettled = {at.batch: at.token for at in scan.positions if first < at.batch <= seen.batch}
                yield from self._redo(seen, found, last, tuple(unsettled.items()), seen.token)
                settled = scan.position_of(last.batch, last.token)
        elif seen.batch == 0 < last.batch or (seen.batch == last.batch and seen.token != last.token):
            fork = True
        elif gap:
            fork = True  # the batches between could never be settled there
        if not fork:
            yield
            refused = self._owner.server.bless(self.term, seen, last.batch, last.token)
            if refused is None:
                return settled
            if refused is not Refusal.BROKEN:
                raise TakeoverFailed(refused)
        if last.batch == 0:
            raise TakeoverFailed("a fork, and the journal is empty")
        yield from self._rebuild(seen, last)
        yield
        self._stop_if(self._owner.server.bless(self.term, seen, last.batch, last.token))
        return scan.position_of(last.batch, last.token)

    def _redo(
        self, seen: ServerState, start: Position, end: Position, settled: tuple[tuple[int, str], ...], token: str
    ) -> Generator[None, None, None]:
        """Redo the batches from `start` up to `end`; `token` is that of Redis at `start`."""
        reader = reader_from(start, self._rules)
        positions: list[Position] = []
        records: list[JournalRecord] = []
        yield from self._read(reader, end.offset, positions, records)
        if (reader.position.batch, reader.position.token) != (end.batch, end.token):
            raise TakeoverFailed("the journal leads elsewhere")
        batch = start.batch
        while records or settled:
            size = 1 + self._world.draw(REDONE_MAX)
            some, at = records[:size], positions[: len(records[:size])]
            changed: Rows = {}
            for record in some:
                changed |= record.payload.changed  # type: ignore[attr-defined]
            position = at[-1] if at else start
            settled = (*settled, *((record.batch, record.token) for record in some))
            yield
            step = RedoStep(batch, token, position, settled, changed)
            self._stop_if(self._owner.server.redo(self.term, seen, step))
            batch, token, settled = position.batch, position.token, ()
            del records[:size], positions[:size]

    def _rebuild(self, seen: ServerState, end: Position) -> Generator[None, None, None]:
        for first in (True, False):
            yield
            self._stop_if(self._owner.server.flush(self.term, seen, first))
        yield
        table, journal = self._world.table, self._world.journal
        whole = table.whole if self._rules.rebuild_redoes_since_the_last_pass else table.derived
        if whole is not None:
            start = self._newest([whole])
        else:
            start = self._newest(table.checkpoints()) if journal.first else Position.beginning()
        if start.batch > end.batch and self._rules.rebuild_stops_at_a_row_beyond_the_end:
            raise TakeoverFailed("derived beyond the end")
        if start.batch:
            yield from self._load(seen, start, end)
        if start.batch <= end.batch:
            yield from self._redo(seen, start, end, (), start.token)

    def _load(self, seen: ServerState, start: Position, end: Position) -> Generator[None, None, None]:
        for topic in ("sku:", "order:", "movement:"):
            yield
            rows = [(name, row) for name, row in self._world.table.rows.items() if name.startswith(topic)]
            beyond = any(row.batch > end.batch for _, row in rows)
            if beyond and self._rules.rebuild_stops_at_a_row_beyond_the_end:
                raise TakeoverFailed("a row is beyond the end")
            yield
            some = {name: row.row for name, row in rows}
            self._stop_if(self._owner.server.load(self.term, seen, some, None))
        yield
        self._stop_if(self._owner.server.load(self.term, seen, {}, start))

    def _stop_if(self, refused: Refusal | None) -> None:
        if refused is not None:
            raise TakeoverFailed(refused)
