"""The worker's Prometheus metrics. One registry per worker, so that tests can have several."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from stocktide.agents.relay_assignment import RunningRelay
from stocktide.streams.exposition import FunctionCounter, make_registry
from stocktide.tables.ledger.records import DecisionHead
from stocktide.tables.settlement.stalls import StallMonitor, make_stall_gauges

# Buckets up to COMMANDS_MAX of agents.intake.
_SIZES = (1, 4, 16, 64, 128, 256)

# Uncommitted records by topic and partition.
Lags = Mapping[tuple[str, int], int]


class WorkerMetrics:
    """The worker's metrics; names begin with `stocktide_`."""

    def __init__(self) -> None:
        self.registry = make_registry()
        self.outcomes = Counter(
            "stocktide_outcomes", "Decisions of commands from Kafka", ["outcome", "replayed"], registry=self.registry
        )
        self.decided = Counter(
            "stocktide_decided_commands",
            "Settled commands of every source, without repeats",
            ["outcome"],
            registry=self.registry,
        )
        self.batch_commands = Histogram(
            "stocktide_batch_commands", "Commands in a batch", buckets=_SIZES, registry=self.registry
        )
        self.dead_letters = Counter("stocktide_dead_letters", "Rows written to dead-letters", registry=self.registry)
        self.rows = Counter("stocktide_rows", "Rows written to derived topics", ["topic"], registry=self.registry)
        self.lag = Gauge(
            "stocktide_lag_records", "Records not committed yet", ["topic", "partition"], registry=self.registry
        )
        self.settled_batch = Gauge("stocktide_settled_batch", "The newest batch settled here", registry=self.registry)
        self.derived_batch = Gauge("stocktide_derived_batch", "The newest batch derived here", registry=self.registry)
        self.relay_lag = Gauge("stocktide_relay_lag_batches", "Batches sent and not settled", registry=self.registry)
        self.relay_term = Gauge("stocktide_relay_term", "The relay's term, 0 where none runs", registry=self.registry)
        self.blessed = Gauge("stocktide_relay_blessed", "1 while this worker's relay serves", registry=self.registry)
        self.recovery = Gauge(
            "stocktide_recovery_ratio", "Part of a recovery's phase that is done", ["phase"], registry=self.registry
        )
        self._resubmitted = 0
        FunctionCounter(
            self.registry,
            "stocktide_resubmitted_batches",
            "Batches that were lost and submitted again",
            lambda: self._resubmitted,
        )
        self.stalled, self.stalled_seconds = make_stall_gauges(self.registry)
        self._make_audit_gauges()
        self.webhook_calls = Counter(
            "stocktide_webhook_calls", "Calls of webhooks", ["webhook", "outcome"], registry=self.registry
        )
        self.webhook_pending = Gauge(
            "stocktide_webhook_pending_items", "Items that an endpoint lacks", ["webhook"], registry=self.registry
        )

        self.alert_messages = Counter(
            "stocktide_alert_messages",
            "Messages to receivers of alerts",
            ["receiver", "outcome"],
            registry=self.registry,
        )
        self.pending_alerts = Gauge(
            "stocktide_pending_alerts", "Alerts that a receiver lacks", ["receiver"], registry=self.registry
        )

    def _make_audit_gauges(self) -> None:
        registry = self.registry
        self.audited_at = Gauge(
            "stocktide_audit_end_timestamp_seconds", "When the last finished audit ended", registry=registry
        )
        self.audit_seconds = Gauge(
            "stocktide_audit_duration_seconds", "Duration of the last finished audit", registry=registry
        )
        self.audit_compared = Gauge(
            "stocktide_audit_compared_records",
            "What the last audit compared: batches of the log, keys of Redis, rows of tables",
            ["side"],
            registry=registry,
        )
        self.drifts = Gauge("stocktide_audit_drifting_keys", "Keys with drift in the last audit", registry=registry)
        self.drift = Gauge(
            "stocktide_audit_drift_keys", "Keys with drift by subject and side", ["subject", "side"], registry=registry
        )
        self.audits_unfinished = Counter(
            "stocktide_audits_unfinished", "Audits that could not be finished", registry=registry
        )

    def count(self, decision: DecisionHead) -> None:
        """Count a settled decision of an agent."""
        self.batch_commands.observe(len(decision.results))
        tally = Tally((result.outcome, result.replayed) for result in decision.results)
        for (outcome, replayed), number in tally.items():
            self.outcomes.labels(outcome, "yes" if replayed else "no").inc(number)

    def forget_webhook(self, name: str) -> None:
        """Drop the rows of a webhook that this worker no longer calls: names come and go, and each costs memory."""
        self.webhook_pending.remove(name)
        for outcome in ("ok", "failed"):
            self.webhook_calls.remove(name, outcome)

    def show_stalls(self, stalls: StallMonitor) -> None:
        """Update the gauges of stalls."""
        stalls.show(self.stalled, self.stalled_seconds)

    def refresh_deciding(self, relay: RunningRelay | None, settled_batch: int, resubmitted: int) -> None:
        """Update the gauges of the role that decides."""
        self.settled_batch.set(settled_batch)
        self._resubmitted = resubmitted
        self.relay_lag.set(relay.lag if relay else 0)
        self.relay_term.set(relay.term if relay else 0)
        self.blessed.set(1 if relay and relay.blessed else 0)
        self.recovery.clear()
        if relay and relay.recovery:
            progress = relay.recovery
            self.recovery.labels(progress.phase).set(progress.done / progress.total if progress.total else 1.0)

    def refresh_lags(self, lags: Lags) -> None:
        """Update the lag of each consumed partition."""
        self.lag.clear()  # partitions come and go
        for (topic, partition), records in lags.items():
            self.lag.labels(topic, partition).set(records)
