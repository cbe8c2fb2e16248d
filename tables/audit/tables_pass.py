"""The comparison of the tables with the log, exact during live traffic.

In: a fold of the log, a follower that moves it, rows of the derived topics. Out: the keys whose newest row differs
lastingly from the log. Each row names its batch: a row ahead of the fold is compared when the fold reaches that batch;
a row behind it is in flight until the log's newer state of its key has been derived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct

from stocktide.tables.audit.compare import Difference, compare_row
from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, kept_until
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import JournalFollower, ReportProgress
from stocktide.tables.audit.topic_rows import UNREADABLE, KafkaTables
from stocktide.tables.derived_rows import RowKind, StoredRow
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.records import MovementRecord, OrderRecord

# Rows follow their batch within moments. Rows missing after this time are reported as unsettled: the derivation lags.
SETTLE_TIMEOUT_SECONDS = 30.0
_PAUSE_SECONDS = 0.3
_KINDS: tuple[Literal["sku", "order", "movement"], ...] = ("sku", "order", "movement")
_KEYS_PER_TURN = 5_000

TableKey = tuple[RowKind, str]
# Equal; still in flight; lasting differences.
RowVerdict = Literal["right", "in flight"] | tuple[Difference, ...]


class DriftingRow(Struct, frozen=True):
    """A key with lasting differences and its row, if any."""

    row: StoredRow | None
    differences: tuple[Difference, ...]


class TablesPass:
    """One pass over the tables. `newest_batch` returns the newest decided batch; `as_of_ms` is the fold's. `skus`: only
    rows of those SKUs and of orders with them."""

    def __init__(
        self,
        fold: JournalFold,
        follower: JournalFollower,
        side: KafkaTables,
        newest_batch: Callable[[], Awaitable[int]],
        limits: LedgerLimits,
        as_of_ms: int,
        report: ReportProgress,
        skus: frozenset[str] | None = None,
    ) -> None:
        self._fold = fold
        self._follower = follower
        self._side = side
        self._newest_batch = newest_batch
        self._limits = limits
        self._as_of_ms = as_of_ms
        self._report = report
        self._skus = skus
        self._suspects: dict[TableKey, StoredRow | None] = {}
        self.rows = 0
        self.in_flight = 0
        self.unsettled: tuple[TableKey, ...] = ()

    async def run(self) -> dict[TableKey, DriftingRow]:
        """The differing keys. Raises AuditError, KafkaError and redis-py's errors."""
        derived = await self._catch_up()
        await self._scan()
        suspects = len(self._suspects)
        drifting: dict[TableKey, DriftingRow] = {}
        deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
        while self._suspects:
            # The topics are compacted: during the first scan a row may have been removed in favour of one written after
            # the end of the scan.
            await self._read_on()
            await self._check_suspects(derived, drifting)
            if not self._suspects or time.monotonic() > deadline:
                break
            self._report("rows in flight", suspects - len(self._suspects), suspects)
            await asyncio.sleep(_PAUSE_SECONDS)
            derived = await self._catch_up()
        self.unsettled = tuple(self._suspects)
        self.in_flight = suspects - len(drifting) - len(self.unsettled)
        return drifting

    async def _catch_up(self) -> int:
        """The batch up to which all rows are derived; the fold is advanced to it."""
        derived = (await self._side.checkpoints()).derived
        batch = derived.batch if derived else 0
        if batch > self._fold.batch:
            await self._follower.advance(batch)
        return batch

    # The first scan

    async def _scan(self) -> None:
        seen: set[int] = set()
        async for chunk in self._side.rows(lambda done, total: self._report("rows", done, total)):
            for row in chunk:
                if not self._is_audited(row):
                    continue
                seen.add(hash((row.kind, row.key)))
                if self._equals_log(row):
                    self._suspects.pop((row.kind, row.key), None)
                else:
                    self._suspects[row.kind, row.key] = row
            self.rows += len(chunk)
        async for key in self._expected():
            if hash(key) not in seen:
                self._suspects[key] = None

    async def _expected(self) -> AsyncIterator[TableKey]:
        """The keys that must have a row."""
        scanned = 0
        for kind in _KINDS:
            for key in self._fold.keys(kind):
                scanned += 1
                if scanned % _KEYS_PER_TURN == 0:
                    await asyncio.sleep(0)
                if self._skus is not None and not self._is_key_audited(kind, key):
                    continue
                if kind != "order" or not self._is_parked(key):
                    yield kind, key
        if self._skus is None:
            for key, (_, level) in self._fold.policies.items():
                if level is not None:
                    yield "policy", key

    def _is_parked(self, order_id: str) -> bool:
        record = self._fold.record("order", order_id)
        return isinstance(record, OrderRecord) and record.state == "parked"

    def _is_audited(self, row: StoredRow) -> bool:
        if self._skus is None:
            return True
        if isinstance(row.record, OrderRecord):
            return any(line.sku in self._skus for line in row.record.lines)
        return row.kind != "policy" and self._is_key_audited(row.kind, row.key)

    def _is_key_audited(self, kind: str, key: str) -> bool:
        assert self._skus is not None
        if kind == "order":
            record = self._fold.record("order", key)
            return isinstance(record, OrderRecord) and any(line.sku in self._skus for line in record.lines)
        return kind == "sku" and key in self._skus

    # Suspects

    async def _read_on(self) -> None:
        """Read new rows, and keep those of suspects."""
        async for chunk in self._side.rows(lambda done, total: None):
            for row in chunk:
                if (row.kind, row.key) in self._suspects:
                    self._suspects[row.kind, row.key] = row

    async def _check_suspects(self, derived: int, drifting: dict[TableKey, DriftingRow]) -> None:
        """Remove the suspects that are decided. The fold is advanced to each row ahead of it."""
        newest = await self._newest_batch()
        suspects = sorted(self._suspects.items(), key=lambda item: item[1].batch if item[1] else 0)
        for at, (key, row) in enumerate(suspects):
            if row is not None and self._fold.batch < row.batch <= newest:
                await self._follower.advance(row.batch)
            verdict = self._verdict(key, row, derived)
            if verdict == "in flight":
                continue
            del self._suspects[key]
            if not isinstance(verdict, str):
                drifting[key] = DriftingRow(row, verdict)
            if at % _KEYS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _verdict(self, key: TableKey, row: StoredRow | None, derived: int) -> RowVerdict:
        if row is not None and self._equals_log(row):
            return "right"
        batch, expected = self._in_log(key)
        if batch > derived or (key[0] == "sku" and key[1] in self._fold.patched):
            return "in flight"
        if expected is None and (row is None or row.record is None) and (row is None or row.batch != UNREADABLE):
            return "right"
        if row is not None and row.batch == UNREADABLE:
            return (Difference("table", "row", "what the log holds", "bytes that are no row"),)
        differences = compare_row(expected, row.record if row else None)
        if row is not None and row.batch != batch:
            differences += (Difference("table", "batch", batch or None, row.batch),)
        return differences or "right"

    def _equals_log(self, row: StoredRow) -> bool:
        """Whether a row equals the log's record, or its key has expired."""
        batch, expected = self._in_log((row.kind, row.key))
        if row.batch == UNREADABLE:
            return False
        if expected is None:
            return (
                row.record is None or (row.kind != "policy" and self._has_expired(row)) or self._is_removal(row, batch)
            )
        if row.kind == "policy":
            return row.batch == batch and getattr(row.record, "policy", None) == expected
        return row.batch == batch and not compare_row(expected, row.record)

    def _has_expired(self, row: StoredRow) -> bool:
        record = row.record
        if not isinstance(record, OrderRecord | MovementRecord):
            return False
        return kept_until(record, self._limits) <= self._as_of_ms + EXPIRY_MARGIN_MS

    @staticmethod
    def _is_removal(row: StoredRow, batch: int) -> bool:
        """Whether the row states that its policy level was removed."""
        return row.kind == "policy" and row.batch == batch and getattr(row.record, "policy", None) is None

    def _in_log(self, key: TableKey) -> tuple[int, Any]:
        """The log's batch and record (or policy) of a key; (0, None) if unknown."""
        kind, name = key
        if kind == "policy":
            return self._fold.policies.get(name, (0, None))
        kept = self._fold.get(kind, name)
        return (kept.batch, self._fold.record(kind, name)) if kept else (0, None)
