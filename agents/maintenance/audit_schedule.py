"""The scheduled audit, by the worker that owns the shard.

In: time. Out: runs of `stocktide audit --json --background` in a process of its own, which keeps its memory and CPU use
out of the worker; its findings as metrics, a log line, and an alert of type `drift` for each key that differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import msgspec
from msgspec import Struct

from stocktide.agents.metrics import WorkerMetrics
from stocktide.errors import StocktideError
from stocktide.streams.contract.documents import AuditStatus, PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.tables.audit.compare import Difference

logger = logging.getLogger(__name__)

# The first audit is delayed, to keep a starting worker free.
FIRST_SECONDS_MAX = 900.0
# A million SKUs and orders take some minutes at low priority; a longer run hangs.
RUN_SECONDS_MAX = 3_600.0
# How often the ownership of the shard is checked.
OWNER_CHECK_SECONDS = 5.0
# Alerts of one audit; with more drifts the report must be read anyway.
ALERTS_MAX = 100
# Characters kept of an error output or a detail.
_TEXT_LENGTH_MAX = 500


class ReportedDrift(Struct, frozen=True):
    """A drift in the report of `stocktide audit --json`."""

    subject: str
    key: str
    sides: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    since_batch: int | None = None


class AuditCoverage(Struct, frozen=True):
    """What the audit compared."""

    batches: int = 0
    redis_keys: int = 0
    rows: int = 0


class AuditReport(Struct, frozen=True):
    """The fields of that report that are used here."""

    batch: int
    drifts: int
    drift: tuple[ReportedDrift, ...]
    looked_at: AuditCoverage
    unsettled: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


_decode_report = msgspec.json.Decoder(AuditReport).decode


class AuditFailed(StocktideError):
    """The audit process gave no report; the message gives the reason."""


class AuditSchedule:
    """Audits every `interval_seconds` while `owns` returns true. `audit` returns a report or raises AuditFailed;
    `alerts` is the topic's full name."""

    def __init__(
        self,
        audit: Callable[[], Awaitable[AuditReport]],
        owns: Callable[[], bool],
        interval_seconds: float,
        publisher: Publisher,
        alerts: str,
        metrics: WorkerMetrics,
    ) -> None:
        self._audit = audit
        self._owns = owns
        self._interval_seconds = interval_seconds
        self._publisher = publisher
        self._alerts = alerts
        self._metrics = metrics
        self.last: AuditStatus | None = None

    async def run(self) -> NoReturn:
        """Run until cancelled."""
        await asyncio.sleep(min(FIRST_SECONDS_MAX, self._interval_seconds))
        while True:
            if self._owns():
                await self.audit_once()
                await asyncio.sleep(self._interval_seconds)
            else:
                await asyncio.sleep(min(OWNER_CHECK_SECONDS, self._interval_seconds))

    async def audit_once(self) -> None:
        """Audit once and report the findings."""
        began = time.monotonic()
        try:
            report = await self._audit()
        except (AuditFailed, OSError) as error:
            self._metrics.audits_unfinished.inc()
            logger.warning("the audit could not be finished: %s", error)
            self.last = AuditStatus(rfc3339(now_ms()), round(time.monotonic() - began, 1), None, str(error))
            return
        seconds = time.monotonic() - began
        self._update_metrics(report, seconds)
        waiting = f"{len(report.unsettled)} rows are still to be derived" if report.unsettled else ""
        why = "; ".join(filter(None, (waiting, *report.unchecked)))
        self.last = AuditStatus(rfc3339(now_ms()), round(seconds, 1), report.drifts, why or None)
        if not report.drifts:
            if report.unsettled or report.unchecked:
                self._metrics.audits_unfinished.inc()
                logger.warning("audited as of batch %d, and not all could be checked: %s", report.batch, why)
                return
            logger.info(
                "audited as of batch %d in %.1f s: no drift in %d keys of Redis and %d rows of tables",
                *(report.batch, seconds, report.looked_at.redis_keys, report.looked_at.rows),
            )
            return
        named = ", ".join(f"{drift.subject} {drift.key}" for drift in report.drift[:10])
        logger.error("as of batch %d %d keys drift: %s; see `stocktide audit`", report.batch, report.drifts, named)
        await self._alert(report)

    def _update_metrics(self, report: AuditReport, seconds: float) -> None:
        metrics, looked_at = self._metrics, report.looked_at
        metrics.audited_at.set_to_current_time()
        metrics.audit_seconds.set(seconds)
        compared = {"log": looked_at.batches, "redis": looked_at.redis_keys, "tables": looked_at.rows}
        for side, number in compared.items():
            metrics.audit_compared.labels(side).set(number)
        metrics.drift.clear()  # corrected drifts disappear
        for drift in report.drift:
            for side in drift.sides:
                metrics.drift.labels(drift.subject, side).inc()
        metrics.drifts.set(report.drifts)

    async def _alert(self, report: AuditReport) -> None:
        at = rfc3339(now_ms())
        rows = [_alert_row(drift, report.batch, at) for drift in report.drift[:ALERTS_MAX]]
        try:
            await self._publisher.publish(self._alerts, rows, self._publisher.epoch)
        except MembershipLost:
            logger.info("the shard moved to another worker, whose audit will report the drift")


def _alert_row(drift: ReportedDrift, batch: int, at: str) -> OutputRow:
    """A row of `alerts`; a repeat as of the same batch gives the same row."""
    sku = drift.key if drift.subject == "sku" else ""
    numbers = [each.found - each.expected for each in drift.differences if _is_counter(each)]
    alert = PublishedAlert(
        id=f"drift-{batch}-{drift.subject}-{drift.key}",
        type="drift",
        sku=sku,
        order_id=drift.key if drift.subject == "order" else None,
        quantity=numbers[0] if numbers else None,
        at=at,
        batch=batch,
        detail="; ".join(f"{each.side}: {each.what}" for each in drift.differences)[:_TEXT_LENGTH_MAX],
    )
    return sku.encode(), encode(alert)


def _is_counter(each: Difference) -> bool:
    return each.what.startswith("counter ") and isinstance(each.expected, int) and isinstance(each.found, int)


async def run_audit_process(environ: Mapping[str, str]) -> AuditReport:
    """Run `stocktide audit` with the settings in `environ`; returns its report. Kills the process when cancelled.
    Raises AuditFailed and OSError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stocktide", "audit", "--json", "--background"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=dict(environ),
    )
    try:
        async with asyncio.timeout(RUN_SECONDS_MAX):
            output, error_output = await process.communicate()
    except TimeoutError as error:
        raise AuditFailed(f"it did not end within {RUN_SECONDS_MAX:.0f} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    try:
        return _decode_report(output)
    except msgspec.MsgspecError as error:
        text = error_output.decode(errors="replace").strip()[-_TEXT_LENGTH_MAX:]
        raise AuditFailed(text or f"it ended with status {process.returncode} and said nothing") from error
