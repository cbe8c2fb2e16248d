"""`stocktide audit`: compares log, tables and Redis beside live traffic.

In: settings. Out: a report or JSON; exit status 0 where nothing differs, 1 where something does and stays so, 2 where
the audit could not be finished.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.errors import ServerUnreachable
from stocktide.ops.audit_report import report_lines, report_of
from stocktide.ops.progress_bars import ProgressBars
from stocktide.ops.stalled import Stalled
from stocktide.settings import Settings
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.topics import JOURNAL
from stocktide.tables.audit.auditor import Auditor
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.journal_follower import AuditError, ReportProgress
from stocktide.tables.audit.redis_keys import RedisSide
from stocktide.tables.audit.topic_rows import KafkaTables
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.wait_for_servers import wait_for_servers

DRIFT = 1
UNFINISHED = 2
# Failures of an audit that are no drift.
AUDIT_FAILURES = (AuditError, ServerUnreachable, Stalled, KafkaError, RedisError, OSError, msgspec.MsgspecError)
# Serving processes have priority.
_NICENESS = 10


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """`skus`: only those and their orders; none: everything. `background`: no bars, and low priority."""

    skus: tuple[str, ...] = ()
    as_json: bool = False
    background: bool = False


def run(settings: Settings, options: AuditOptions) -> int:
    """Audit and print the report on standard output; the exit status."""
    if options.background:
        os.nice(_NICENESS)
    try:
        findings = asyncio.run(_audit(settings, options))
    except AUDIT_FAILURES as error:
        sys.stderr.write(f"stocktide: the audit could not be finished: {error}\n")
        return UNFINISHED
    if options.as_json:
        report = {**report_of(findings), "memory_bytes": _memory_bytes()}
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    else:
        for line in report_lines(findings):
            sys.stdout.write(line + "\n")
        sys.stdout.write(f"memory     {_memory_bytes() / 1e6:,.0f} MB\n")
    return exit_status(findings)


def exit_status(findings: Findings) -> int:
    """The exit status of findings."""
    if findings.drifts:
        return DRIFT
    return 0 if findings.complete else UNFINISHED


async def _audit(settings: Settings, options: AuditOptions) -> Findings:
    with ProgressBars("audit", hidden=options.background) as bars:
        async with open_auditor(settings, options.skus, bars.report) as auditor:
            return await bars.watchdog.run("Kafka and Redis", auditor.run())


@asynccontextmanager
async def open_auditor(settings: Settings, skus: tuple[str, ...], report: ReportProgress) -> AsyncIterator[Auditor]:
    """An auditor of the system in the settings. Raises ServerUnreachable, KafkaError, RedisError."""
    await wait_for_servers(settings)
    access = settings.kafka_access()
    redis = connect(settings.redis, **settings.redis_access())
    log = KafkaLog(settings.kafka, JOURNAL.full_name(settings.app_id), **access)
    tables = KafkaTables(settings.kafka, settings.app_id, **access)
    try:
        side = RedisSide(redis, settings.app_id)
        yield Auditor(log, side, tables, LedgerLimits(), report, frozenset(skus) or None)
    finally:
        await tables.close()
        await log.close()
        await redis.aclose()


def _memory_bytes() -> int:
    """The peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
