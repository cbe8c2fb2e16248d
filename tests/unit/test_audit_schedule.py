"""The worker's scheduled audits: what they report, and that a failure does not end them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stocktide.agents.maintenance.audit_schedule import (
    ALERTS_MAX,
    AuditCoverage,
    AuditFailed,
    AuditReport,
    AuditSchedule,
    ReportedDrift,
)
from stocktide.agents.metrics import WorkerMetrics
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.tables.audit.compare import Difference
from tests.unit.fakes import RecordingPublisher

CLEAN = AuditReport(7, 0, (), AuditCoverage(7, 20, 30))
DIFFERENCE = Difference("redis", "counter on_hand@SH1", 10, 7)


def drifting(*drifts: ReportedDrift) -> AuditReport:
    return AuditReport(7, len(drifts), drifts, AuditCoverage(7, 20, 30))


def sample(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def audit_once(report: AuditReport | Exception, alerts: RecordingPublisher, metrics: WorkerMetrics) -> None:
    async def audit() -> AuditReport:
        if isinstance(report, Exception):
            raise report
        return report

    await AuditSchedule(audit, lambda: True, 60, alerts, "t-alerts", metrics).audit_once()


async def test_a_drift_is_an_alert_and_a_number_until_it_was_put_right() -> None:
    alerts, metrics = RecordingPublisher(), WorkerMetrics()
    sku = ReportedDrift("sku", "A", ("redis",), (DIFFERENCE,), 5)
    order = ReportedDrift("order", "o1", ("redis", "table"))
    await audit_once(drifting(sku, order), alerts, metrics)
    assert [(row["type"], row["sku"], row["order_id"], row["quantity"]) for row in alerts.values("t-alerts")] == [
        ("drift", "A", None, -3),
        ("drift", "", "o1", None),
    ]
    assert sample(metrics, "stocktide_audit_drift_keys", subject="order", side="table") == 1
    assert sample(metrics, "stocktide_audit_drifting_keys") == 2
    await audit_once(CLEAN, alerts, metrics)
    assert len(alerts.values("t-alerts")) == 2 and sample(metrics, "stocktide_audit_drifting_keys") == 0
    assert sample(metrics, "stocktide_audit_drift_keys", subject="order", side="table") is None
    assert sample(metrics, "stocktide_audit_compared_records", side="redis") == 20


async def test_the_alerts_of_a_catastrophe_have_an_end() -> None:
    alerts = RecordingPublisher()
    await audit_once(
        drifting(*(ReportedDrift("sku", f"S{at}", ("redis",)) for at in range(5 * ALERTS_MAX))), alerts, WorkerMetrics()
    )
    assert len(alerts.values("t-alerts")) == ALERTS_MAX


@pytest.mark.parametrize("failure", [AuditFailed("no Kafka"), OSError("no memory")])
async def test_an_audit_that_fails_is_counted_and_ends_nothing(failure: Exception) -> None:
    metrics = WorkerMetrics()
    await audit_once(failure, RecordingPublisher(), metrics)
    assert sample(metrics, "stocktide_audits_unfinished_total") == 1
    assert sample(metrics, "stocktide_audit_end_timestamp_seconds") == 0


async def test_alerts_of_a_worker_that_lost_its_shard_are_dropped() -> None:
    alerts = RecordingPublisher()
    alerts.failures.append(MembershipLost())
    await audit_once(drifting(ReportedDrift("sku", "A", ("redis",))), alerts, WorkerMetrics())
    assert not alerts.failures, "the publisher was asked"
    assert not alerts.values("t-alerts")


async def test_only_the_owner_of_the_shard_audits() -> None:
    audits, owned = 0, False

    async def audit() -> AuditReport:
        nonlocal audits
        audits += 1
        return CLEAN

    auditing = AuditSchedule(audit, lambda: owned, 0.01, RecordingPublisher(), "t-alerts", WorkerMetrics())
    running = asyncio.create_task(auditing.run())
    await asyncio.sleep(0.1)
    assert audits == 0
    owned = True
    await asyncio.sleep(0.1)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert audits > 1


async def test_an_audit_that_could_not_check_all_is_no_finished_one(caplog: pytest.LogCaptureFixture) -> None:
    alerts, metrics = RecordingPublisher(), WorkerMetrics()
    what = "the rows of batches 5 to 7: they are still to be derived"
    await audit_once(AuditReport(7, 0, (), AuditCoverage(7, 20, 30), unchecked=(what,)), alerts, metrics)
    assert sample(metrics, "stocktide_audits_unfinished_total") == 1
    assert what in caplog.text and "no drift" not in caplog.text
