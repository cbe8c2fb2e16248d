"""The audit: compares log, tables and Redis during live traffic.

In: the journal, the tables, a Redis. Out: `Findings`: lasting differences with their sides and batches, the number of
transient ones, and a digest of each side as of one batch. Tables and Redis are compared with the log; the log is
compared with itself: its rows with its effects, its counters with its orders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.log import JournalLog
from stocktide.tables.audit.findings import (
    AuditCounts,
    CounterSums,
    Findings,
    SideDigests,
    find_log_drifts,
    merge_drifts,
    redis_digest,
    summarize_log,
    tables_digest,
)
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import AuditError, JournalFollower, ReportProgress, find_start
from stocktide.tables.audit.redis_keys import RedisSide
from stocktide.tables.audit.redis_pass import ExaminedKey, RedisKey, RedisPass
from stocktide.tables.audit.tables_pass import DriftingRow, TableKey, TablesPass
from stocktide.tables.audit.topic_rows import KafkaTables
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.settlement.stalls import CHECK_SECONDS, STALL_SECONDS

# With at most this many drifts, all are read again at the end, as of one batch.
_CONFIRMED_MAX = 5_000

_Value = TypeVar("_Value")


class Auditor:
    """One audit, and its state for a later repair. `skus`: audit only those SKUs and their orders."""

    def __init__(
        self,
        log: JournalLog,
        redis: RedisSide,
        tables: KafkaTables,
        limits: LedgerLimits,
        report: ReportProgress,
        skus: frozenset[str] | None = None,
    ) -> None:
        self._log = log
        self._redis = redis
        self._tables = tables
        self._limits = limits
        self._report = report
        self._skus = skus
        self._seconds: dict[str, float] = {}
        self._as_of_ms = now_ms()
        self._redis_pass: RedisPass | None = None
        self._settled = 0
        self._unchecked: list[str] = []
        self.fold = JournalFold(limits, self._as_of_ms)
        self.redis_drifts: dict[RedisKey, ExaminedKey] = {}
        self.table_drifts: dict[TableKey, DriftingRow] = {}
        self.sums: CounterSums = {}

    async def run(self) -> Findings:
        """Audit all sides. Raises AuditError, KafkaError, OSError, msgspec.MsgspecError and redis-py's errors."""
        follower = await self._timed("journal", self._read_journal())
        redis = self._redis_pass = RedisPass(self.fold, follower, self._redis, self._limits, self._report, self._skus)
        tables = TablesPass(
            self.fold,
            follower,
            self._tables,
            self._newest_batch,
            self._limits,
            self._as_of_ms,
            self._report,
            self._skus,
        )
        self.redis_drifts = await self._timed("redis", redis.run())
        self.table_drifts = await self._timed("tables", tables.run())
        await self._timed("redis", self._confirm())
        await self._check_stalls()
        return await self._findings(follower, redis, tables)

    def examine(self, keys: dict[RedisKey, set[str]]) -> AsyncIterator[ExaminedKey]:
        """Read keys of Redis again, exactly: when a key is yielded, the fold is at its batch. The values are additional
        indexes in which the order is searched."""
        assert self._redis_pass is not None, "run first"
        return self._redis_pass.examine(keys)

    async def _read_journal(self) -> JournalFollower:
        settled = await self._redis.settled()
        checkpoints = await self._tables.checkpoints()
        start = await find_start(self._log, checkpoints)
        self.fold = JournalFold(self._limits, self._as_of_ms, start.batch)
        if start.batch:
            async for rows in self._tables.rows(lambda done, total: self._report("base", done, total)):
                self.fold.add_rows(rows)
            await self._tables.close()
        follower = JournalFollower(self._log, self.fold, start, self._report)
        if settled < start.batch:
            raise AuditError(
                f"Redis is settled up to batch {settled}, but the journal is readable only from {start.batch} on"
            )
        await follower.advance(settled)
        return follower

    async def _newest_batch(self) -> int:
        return (await self._redis.read([])).batch

    async def _confirm(self) -> None:
        """Read the differing keys again, all as of one batch."""
        if not 0 < len(self.redis_drifts) <= _CONFIRMED_MAX:
            return
        keys = {key: set(found.stored.entries) for key, found in self.redis_drifts.items()}
        found = [each async for each in self.examine(keys)]
        self._settled = sum(not each.differences for each in found)
        self.redis_drifts = {(each.kind, each.key): each for each in found if each.differences}

    async def _check_stalls(self) -> None:
        """Wait until the decided batches are in the journal and their rows derived; if either stalls, the rest is
        reported as unchecked."""
        decided, read = await self._newest_batch(), self.fold.batch
        settled = await _wait_for_position(self._redis.settled, decided)
        if settled < decided:
            self._unchecked.append(
                f"batches {settled + 1:,} to {decided:,}: Redis decided them, and they are not in the journal"
            )
        derived = await _wait_for_position(self._derived_batch, read)
        if derived < read:
            self._unchecked.append(f"the rows of batches {derived + 1:,} to {read:,}: they are still to be derived")

    async def _derived_batch(self) -> int:
        derived = (await self._tables.checkpoints()).derived
        return derived.batch if derived else 0

    async def _findings(self, follower: JournalFollower, redis: RedisPass, tables: TablesPass) -> Findings:
        log, self.sums = await self._timed("sums", summarize_log(self.fold))
        in_log = await self._timed("sums", find_log_drifts(self.fold, self.sums, self._skus))
        sides = SideDigests(
            log,
            redis_digest(log, self.fold, self.redis_drifts.values(), self._limits, self._as_of_ms),
            tables_digest(log, self.fold, self.table_drifts),
        )
        counts = AuditCounts(
            batches=follower.batches,
            journal_bytes=follower.bytes,
            redis_keys=redis.compared,
            rows=tables.rows,
            settled_redis=redis.in_flight + self._settled,
            settled_tables=tables.in_flight,
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
        )
        return Findings(
            batch=self.fold.batch,
            whole=self.fold.is_whole,
            drifts=merge_drifts(self.fold, in_log, self.redis_drifts, self.table_drifts, redis.foreign, redis.sums),
            unsettled=tuple(f"{kind} {key}" for kind, key in tables.unsettled),
            counts=counts,
            sides=sides if self._skus is None else None,
            unchecked=tuple(self._unchecked),
        )

    async def _timed(self, phase: str, work: Awaitable[_Value]) -> _Value:
        began = time.monotonic()
        try:
            return await work
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - began


async def _wait_for_position(position: Callable[[], Awaitable[int]], batch: int) -> int:
    """The value of `position` when it reaches `batch`, or when it has not moved for STALL_SECONDS."""
    at, since = await position(), time.monotonic()
    while at < batch and time.monotonic() - since < STALL_SECONDS:
        await asyncio.sleep(CHECK_SECONDS)
        before, at = at, await position()
        if at > before:
            since = time.monotonic()
    return at
