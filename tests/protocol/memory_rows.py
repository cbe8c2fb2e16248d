"""The derived topics of a journal in memory: the source of a rebuild, without Kafka.

`keep` derives the journal up to its end, as the journal agent does; a test may overwrite rows afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from stocktide.streams.journal.record import JournalReader, Position, RecordVerdict, decode_record
from stocktide.tables.derived_rows import RowKind, StoredRow
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.recovery.checkpoints import Checkpoints
from stocktide.tables.views import is_order
from tests.harness.memory_log import MemoryJournal


class MemoryRows:
    """A `Source` for a journal in memory."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self._reader = JournalReader(Position(journal.first, 0, "", 0, "") if journal.first else None)
        self._begun: dict[int, Position] = {}
        self.known: dict[tuple[RowKind, str], StoredRow] = {}
        self.whole: Position | None = None
        self.milestones: list[Position] = []

    def keep(self) -> None:
        """Derive the records since the last call."""
        for at in range(self._reader.next_offset, self._journal.first + len(self._journal.values)):
            entry = decode_record(self._journal.values[at - self._journal.first])
            before = self._reader.position
            if self._reader.feed(at, entry) is RecordVerdict.BATCH and entry is not None:
                self._take(decode_decision(entry.payload), before)
        self.milestones.append(self._reader.position)

    def _take(self, decision: Any, before: Position) -> None:
        for row in decision.orders:
            if row.changed and is_order(row.record):
                self._put("order", row.order_id, decision.batch, row.record)
        for row in decision.movements:
            if row.changed:
                self._put("movement", f"{row.warehouse}\n{row.id}", decision.batch, row.record)
        for row in decision.skus:
            self._put("sku", row.sku, decision.batch, row.record)
        for result in decision.results:
            if result.outcome == "restated":
                how, first = result.detail.split()
                if how in ("begun", "whole"):
                    self._begun = {int(first): before}
                if how in ("ended", "whole") and int(first) in self._begun:
                    self.whole = self._begun[int(first)]

    def _put(self, kind: RowKind, key: str, batch: int, record: Any) -> None:
        self.known[kind, key] = StoredRow(kind, key, batch, record)

    async def checkpoints(self) -> Checkpoints:
        """See Source."""
        return Checkpoints(self._reader.position if self.milestones else None, self.whole, tuple(self.milestones))

    async def rows(
        self,
        kinds: Sequence[RowKind] = ("sku", "order", "movement"),
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> AsyncIterator[list[StoredRow]]:
        """See Source."""
        yield [row for row in self.known.values() if row.kind in kinds]
        report(1, 1)
