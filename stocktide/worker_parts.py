"""The roles of one worker, its endpoint and its check for stalls, wired.

In: the settings and two clients of Redis. Out: a `Worker` that joins the groups of its roles, works, and stops in
order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from stocktide.agents.endpoint import WorkerEndpoint
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.progress import ConsumingApp, Deciding, KafkaProbe, RedisProbe, WorkerProgress
from stocktide.errors import StartError
from stocktide.settings import DECIDE, PUBLISH, Settings
from stocktide.streams.contract.documents import ProcessStatus, RecoveryStatus
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import REQUEST_MS_MAX
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.streams.shutdown import end
from stocktide.streams.topics import ALERTS, PROCESSES
from stocktide.tables.settlement.process_reporter import ProcessReporter, stalled_parts
from stocktide.tables.settlement.stalls import StallMonitor
from stocktide.worker_alerts import make_alerts_part
from stocktide.worker_deciding import DecidingRole
from stocktide.worker_publishing import PublishingRole
from stocktide.worker_role import WorkerFailed, WorkerRole
from stocktide.worker_webhooks import WebhooksPart

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

WATCH_SECONDS = 0.5


class Worker:
    """One worker with its roles. `redis` is for commands; the relay's blocking read needs its own client,
    `relay_redis`."""

    def __init__(self, settings: Settings, redis: Redis, relay_redis: Redis, tracing: Tracing | None = None) -> None:
        self._settings = settings
        metrics = WorkerMetrics()
        self.metrics = metrics
        role = settings.worker_role
        self._deciding = None if role == PUBLISH else DecidingRole(settings, redis, relay_redis, metrics, tracing)
        publishing = None if role == DECIDE else PublishingRole(settings, metrics, tracing)
        self._webhooks = None if role == DECIDE else WebhooksPart(settings, metrics, tracing)
        self._alerts = None if role == DECIDE else make_alerts_part(settings, metrics)
        self._senders: list[asyncio.Task[None]] = []
        self._roles: Sequence[WorkerRole] = [each for each in (self._deciding, publishing) if each is not None]
        self.endpoint = WorkerEndpoint(metrics.registry, self.troubles, self._refresh_metrics)
        self._kafka_probe = KafkaProbe(self._make_consumer)
        self._name = f"worker {settings.worker_name}"
        self._stalls = StallMonitor(self._make_progress(redis).statuses, self._alert, self._name)
        self._watching_stalls: asyncio.Task[None] | None = None
        # Of its own: what it says must not wait behind rows, nor for a membership.
        self._producer = AIOKafkaProducer(**settings.kafka_client(), acks=1, request_timeout_ms=REQUEST_MS_MAX)
        topic = PROCESSES.full_name(settings.app_id)
        self._reporter = ProcessReporter(self._producer, topic, self._name, self._status)
        self._reporting: asyncio.Task[None] | None = None

    @property
    def publishers(self) -> list[Publisher]:
        """The producers of the roles, to be started before the worker and stopped after it."""
        webhooks = [] if self._webhooks is None else [self._webhooks.publisher]
        return [*(role.publisher for role in self._roles), *webhooks]

    def _make_consumer(self) -> AIOKafkaConsumer:
        client = self._settings.kafka_client()
        return AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False, request_timeout_ms=REQUEST_MS_MAX)

    def _make_progress(self, redis: Redis) -> WorkerProgress:
        settings, role = self._settings, self._deciding
        apps = [ConsumingApp(each.app, each.workers, each.publisher, each.stock) for each in self._roles]
        deciding = None
        if role is not None:
            probe = RedisProbe(redis, settings.app_id, settings.tick_ms)
            deciding = Deciding(lambda: role.relay, role.submitter, role.steps, probe, role.settled_steps)
        return WorkerProgress(settings.app_id, apps, self._kafka_probe, deciding)

    async def _alert(self, rows: list[OutputRow]) -> None:
        publisher = self._roles[0].publisher
        await publisher.publish(ALERTS.full_name(self._settings.app_id), rows, publisher.epoch)

    async def start(self) -> None:
        """Join the groups and begin. Raises StartError."""
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise StartError(f"Kafka at {self._settings.kafka} refuses the worker's producer: {error}") from error
        await asyncio.gather(*(role.start() for role in self._roles))
        parts = {"webhooks": self._webhooks, "alerts": self._alerts}
        self._senders = [
            asyncio.create_task(part.run(), name=f"the sender of {what}")
            for what, part in parts.items()
            if part is not None
        ]
        self._watching_stalls = asyncio.create_task(self._stalls.run(), name="stalls")
        self._reporting = asyncio.create_task(self._reporter.run(), name="status")

    async def watch(self) -> None:
        """Run until cancelled. Raises WorkerFailed when a part has ended."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for role in self._roles:
                role.raise_if_failed()
            for sender in self._senders:
                if sender.done():
                    why = "cancelled" if sender.cancelled() else repr(sender.exception())
                    raise WorkerFailed(f"{sender.get_name()} ended: {why}")
            if self._watching_stalls is not None and self._watching_stalls.done():
                raise WorkerFailed(f"the check for stalls ended: {self._watching_stalls.exception()!r}")

    async def stop(self) -> None:
        """Stop the roles and the senders, each within a bounded time."""
        if self._watching_stalls is not None:
            self._watching_stalls.cancel()
        if self._reporting is not None:
            self._reporting.cancel()
            await self._reporter.remove()
        await self._producer.stop()
        await asyncio.gather(end(*self._senders), *(role.stop() for role in self._roles))
        await self._kafka_probe.stop()

    def troubles(self) -> list[str]:
        """Why this worker is not ready; empty where it is."""
        troubles = [trouble for role in self._roles for trouble in role.troubles()]
        return [*dict.fromkeys(troubles), *self._stalls.sentences]

    def _status(self) -> ProcessStatus:
        role, stalls = self._deciding, self._stalls.found
        recovery = None if role is None or role.relay is None else role.relay.recovery
        return ProcessStatus(
            process=self._name,
            kind="worker",
            at=rfc3339(now_ms()),
            reasons=self.troubles(),
            stalls=stalled_parts(stalls),
            recovery=None if recovery is None else RecoveryStatus(recovery.phase, recovery.done, recovery.total),
            audit=None if role is None else role.last_audit,
        )

    def _refresh_metrics(self) -> None:
        lags = {place: lag for role in self._roles for place, lag in role.lags().items()}
        if (role := self._deciding) is not None:
            self.metrics.refresh_deciding(role.relay, role.settled_batch, role.submitter.resubmitted)
        self.metrics.refresh_lags(lags)
        self.metrics.show_stalls(self._stalls)
