"""An audit on the stage of the protocol: a real Redis, a journal in memory, rows in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from stocktide.streams.topics import join_key
from stocktide.tables.audit.auditor import Auditor
from stocktide.tables.audit.compare import Drift
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.redis_keys import RedisSide
from stocktide.tables.derived_rows import PolicyLevel, RowKind, StoredRow
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.records import Decision, decode_decision
from stocktide.tables.recovery.checkpoints import Checkpoints
from tests.protocol.rig import ProtocolRig

LIMITS = LedgerLimits()


class MemoryTables:
    """The tables of a journal in memory; `rows` gives all of them each time."""

    def __init__(self, stage: ProtocolRig) -> None:
        self._rows = stage.rows
        self._stage = stage
        self._spoiled: list[StoredRow] = []
        self._lost: set[tuple[RowKind, str]] = set()
        self._spoiled_at = 0

    def spoil(self, *rows: StoredRow, lost: Iterable[tuple[RowKind, str]] = ()) -> None:
        """Somebody writes rows that follow from nothing, and loses others; later batches come after them."""
        self._spoiled, self._lost = list(rows), set(lost)
        self._spoiled_at = len(self._stage.valid())

    async def checkpoints(self) -> Checkpoints:
        """See TableSide. Derives what there is."""
        self._rows.keep()
        return await self._rows.checkpoints()

    async def rows(self, report: Callable[[int, int], None]) -> AsyncIterator[list[StoredRow]]:
        """See TableSide."""
        self._rows.keep()
        known = [*self._rows.known.values(), *self._policies()]
        old = [row for row in known if row.batch <= self._spoiled_at and (row.kind, row.key) not in self._lost]
        yield [*old, *self._spoiled, *(row for row in known if row.batch > self._spoiled_at), *self._removed()]

    async def rewind(self) -> None:
        """See TableSide."""

    def _policies(self) -> Iterator[StoredRow]:
        for decision in decisions(self._stage):
            for row in decision.policies:
                key = join_key(row.channel, row.sku) if row.sku else row.channel
                level = None if row.policy is None else dict(row.policy)
                yield StoredRow("policy", key, decision.batch, PolicyLevel(row.channel, row.sku or None, level))

    def _removed(self) -> Iterator[StoredRow]:
        for decision in decisions(self._stage):
            for repair in decision.repairs:
                if repair.after is None and repair.subject in ("sku", "order", "movement"):
                    yield StoredRow(repair.subject, repair.key, 0, None)  # type: ignore[arg-type]


def decisions(stage: ProtocolRig) -> list[Decision]:
    """What was decided, batch after batch."""
    return [decode_decision(record.payload) for record in stage.valid()]


def auditor_of(stage: ProtocolRig, skus: frozenset[str] | None = None, tables: MemoryTables | None = None) -> Auditor:
    """An audit that has not run yet."""
    side = RedisSide(stage.redis, stage.app_id)
    return Auditor(stage.log(), side, tables or MemoryTables(stage), LIMITS, lambda phase, done, total: None, skus)


async def audit(stage: ProtocolRig, *skus: str, tables: MemoryTables | None = None) -> Findings:
    """Everything, or some SKUs, looked at once."""
    return await auditor_of(stage, frozenset(skus) or None, tables).run()


def differences_by_key(findings: Findings) -> dict[str, set[tuple[str, str]]]:
    """By key, the sides and what differs there."""
    return {f"{drift.subject} {drift.key}": _told(drift) for drift in findings.drifts}


def _told(drift: Drift) -> set[tuple[str, str]]:
    return {(each.side, each.what) for each in drift.differences}
