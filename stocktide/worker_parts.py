"""The parts of one worker, wired: clients, ledger, agents, relay, timers.

In: the settings and two clients of Redis. Out: a `Worker` that joins the group, works, and stops in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.channel_stock.compare import compare
from stocktide.agents.dead_letters import RefusedRowHandler
from stocktide.agents.derive.agent import Derivation
from stocktide.agents.endpoint import EvictionMonitor, WorkerEndpoint
from stocktide.agents.intake import Intake, submit_movements, submit_orders
from stocktide.agents.maintenance.audit_schedule import AuditSchedule, run_audit_process
from stocktide.agents.maintenance.expiry import run_expiry
from stocktide.agents.maintenance.restate import JournalTrimmer, RestatePass
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.progress import KafkaProbe, RedisProbe, WorkerProgress
from stocktide.agents.relay import Relay
from stocktide.agents.relay_assignment import RelayAssignment
from stocktide.errors import StartError, StocktideError
from stocktide.settings import Settings
from stocktide.streams.app import App, chunk_topic, make_app
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.trim import trim_journal
from stocktide.streams.kafka.admin import REQUEST_MS_MAX
from stocktide.streams.kafka.publish import OutputRow, Publisher, make_producer
from stocktide.streams.topics import (
    ALERTS,
    CHANNEL_STOCK,
    DEAD_LETTERS,
    JOURNAL,
    JOURNAL_POSITIONS,
    MOVEMENTS,
    ORDERS,
    STOCK,
    Topic,
)
from stocktide.tables.changelog_table import make_published_table
from stocktide.tables.derived_rows import DerivedTopics
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.recovery.checkpoints import read_checkpoints
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import StallMonitor, StepStatus

logger = logging.getLogger(__name__)

# Time for chunks in progress when the worker stops; unsettled ones are processed again after the restart.
FINISH_SECONDS_MAX = 2.0
# Faust waits for its threads when it stops.
STOP_SECONDS_MAX = 8.0
# A revocation waits this long for rows in flight, so that the successor's rows come later.
FLUSH_SECONDS_MAX = 3.0
# A batch costs a produce request for each of a dozen partitions, with one row or a hundred.
DERIVE_SECONDS_MIN = 0.01
WATCH_SECONDS = 0.5


class WorkerFailed(StocktideError):
    """A part ended that should run for ever."""


class Worker:
    """One worker. `redis` is for commands; the relay's blocking read needs its own client, `relay_redis`."""

    def __init__(self, settings: Settings, redis: Redis, relay_redis: Redis) -> None:
        self._settings = settings
        self._security = settings.kafka_access()
        app_id = settings.app_id
        self.metrics = WorkerMetrics()
        self._settlements = SettlementListener(redis, app_id)
        self._limits = settings.ledger_limits()
        self._submitter = Submitter(Ledger(redis, app_id, self._limits), self._settlements)
        self._app = make_app(
            app_id=app_id,
            kafka=settings.kafka,
            folder=settings.data / "tables" / settings.worker_name,
            partitions=settings.partitions,
            replication=settings.replication or 1,
            worker_name=settings.worker_name,
            security=self._security,
        )
        self.publisher = Publisher(
            make_producer(settings.kafka, **self._security), self._app.membership, self._dead_letter_row
        )
        self._refused_rows = RefusedRowHandler(
            self.publisher.publish, DEAD_LETTERS.full_name(app_id), ALERTS.full_name(app_id)
        )
        self._relay_assignment = RelayAssignment(partial(self._make_relay, relay_redis))
        self._workers, self._stock = self._make_agents(self._app)
        self._app.on_partitions_assigned.connect(self._on_assigned)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._app.on_restored = self._on_restored
        self.endpoint = WorkerEndpoint(self.metrics.registry, self.troubles, self._refresh_metrics)
        self._eviction = EvictionMonitor(redis)
        self._timers: list[asyncio.Task[None]] = []
        self._redis = redis
        self._steps = {"expiry": StepStatus()}
        self._kafka_probe = KafkaProbe(self._make_consumer)
        self._stalls = StallMonitor(self._make_progress().statuses, self._alert, f"worker {settings.worker_name}")

    def _make_consumer(self) -> AIOKafkaConsumer:
        client = self._settings.kafka_client()
        return AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False, request_timeout_ms=REQUEST_MS_MAX)

    def _make_progress(self) -> WorkerProgress:
        settings = self._settings
        return WorkerProgress(
            settings.app_id,
            self._app,
            self._workers,
            self._stock,
            lambda: self._relay_assignment.relay,
            self.publisher,
            self._submitter,
            self._steps,
            RedisProbe(self._redis, settings.app_id, settings.tick_ms),
            self._kafka_probe,
        )

    async def _alert(self, rows: list[OutputRow]) -> None:
        await self.publisher.publish(ALERTS.full_name(self._settings.app_id), rows, self.publisher.epoch)

    async def _dead_letter_row(self, topic: str, partition: int, row: OutputRow, error: KafkaError, epoch: int) -> None:
        await self._refused_rows.set_aside(topic, partition, row, error, epoch)

    def _make_relay(self, redis: Redis, assigned: Callable[[], bool]) -> Relay:
        settings = self._settings
        log = KafkaLog(settings.kafka, JOURNAL.full_name(settings.app_id), **self._security)
        owner = f"{settings.worker_name}-{os.getpid()}-{secrets.token_hex(4)}"
        source = DerivedTopics(settings.kafka, settings.app_id, **self._security)
        return Relay(
            log, LedgerControl(redis, settings.app_id), owner, source=source, limits=self._limits, assigned=assigned
        )

    def _make_journal_timers(self) -> tuple[RestatePass, JournalTrimmer]:
        settings, publisher, app_id = self._settings, self.publisher, self._settings.app_id

        async def count_keys() -> int:
            return int(await self._redis.dbsize())

        async def write_positions(rows: list[OutputRow]) -> None:
            topic = JOURNAL_POSITIONS.full_name(app_id)
            await publisher.publish(topic, rows, publisher.epoch, to_partition=lambda _: 0)

        restating = RestatePass(self._submitter, count_keys, self._owns_shard, settings.restate_seconds)
        checkpoints = partial(read_checkpoints, settings.kafka, app_id, **self._security)
        trim = partial(trim_journal, settings.kafka, app_id, **self._security)
        return restating, JournalTrimmer(checkpoints, trim, write_positions, self._owns_shard)

    def _make_audit_schedule(self) -> AuditSchedule:
        settings = self._settings
        audit = partial(run_audit_process, {**os.environ, **settings.as_environment()})
        alerts = ALERTS.full_name(settings.app_id)
        return AuditSchedule(audit, self._owns_shard, settings.audit_interval, self.publisher, alerts, self.metrics)

    def _owns_shard(self) -> bool:
        return self._relay_assignment.relay is not None and self._relay_assignment.relay.blessed

    def _make_agents(self, app: App) -> tuple[dict[Topic, PartitionWorkers], StockAgent]:
        app_id, publisher, metrics = self._settings.app_id, self.publisher, self.metrics
        positions_topic, updates_topic = JOURNAL_POSITIONS.full_name(app_id), CHANNEL_STOCK.full_name(app_id)
        positions = make_published_table(app, "journal_positions", positions_topic, 1)
        updates = make_published_table(app, "channel_stock", updates_topic, self._settings.partitions)
        intake = Intake(self._submitter, publisher, DEAD_LETTERS.full_name(app_id), ALERTS.full_name(app_id), metrics)
        derivation = Derivation(positions, positions_topic, publisher, app_id, metrics)
        stock = StockAgent(updates, publisher, updates_topic, self._settings.publish_interval_ms, metrics)
        membership = app.membership
        workers = {
            ORDERS: PartitionWorkers(ORDERS.name, partial(submit_orders, intake=intake), membership),
            MOVEMENTS: PartitionWorkers(MOVEMENTS.name, partial(submit_movements, intake=intake), membership),
            JOURNAL: PartitionWorkers(
                JOURNAL.name, derivation.derive, membership, DERIVE_SECONDS_MIN, derivation.busy_seconds
            ),
        }
        for topic, worker in workers.items():
            app.agent(chunk_topic(app, topic), name=topic.name)(_agent(worker.follow))
        app.agent(chunk_topic(app, STOCK), name=STOCK.name)(_agent(stock.follow))
        return workers, stock

    async def start(self) -> None:
        """Join the group and begin. Raises StartError."""
        self._settlements.start()
        self._eviction.start()
        try:
            await self._app.start()
        except (KafkaError, OSError) as error:
            raise StartError(f"the worker cannot join its group on Kafka: {error}") from error
        restating, trimmer = self._make_journal_timers()
        self._steps["restating"] = restating.steps
        for name, run in (
            ("expiry", run_expiry(self._submitter, self.metrics, self._settings.tick_ms, self._steps["expiry"])),
            ("restating", restating.run()),
            ("trimming", trimmer.run()),
            ("stalls", self._stalls.run()),
        ):
            self._timers.append(asyncio.create_task(run, name=name))
        if self._settings.audit_interval:
            self._timers.append(asyncio.create_task(self._make_audit_schedule().run(), name="auditing"))

    async def watch(self) -> None:
        """Run until cancelled. Raises WorkerFailed when a part has ended."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._app.crashed:
                raise WorkerFailed(f"the stream processor failed: {self._app.crash_reason!r}")
            for timer in self._timers:
                if timer.done():
                    raise WorkerFailed(f"{timer.get_name()} ended: {timer.exception()!r}")

    async def stop(self) -> None:
        """Finish chunks in progress, commit, leave the group, stop the relay, each within a bounded time."""
        for timer in self._timers:
            timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await self._finish()
        for workers in self._workers.values():
            await workers.stop()
        await self._stock.stop()
        try:
            await asyncio.wait_for(self._app.stop(), STOP_SECONDS_MAX)
        except TimeoutError:
            logger.warning("the stream processor did not stop within %.0f s", STOP_SECONDS_MAX)
        await self._relay_assignment.stop()
        await self._settlements.stop()
        await self._eviction.stop()
        await self._kafka_probe.stop()

    def troubles(self) -> list[str]:
        """Why this worker is not ready; empty where it is."""
        app, stalls = self._app, self._stalls.sentences
        if not app.membership.held:
            return ["no partitions were assigned yet", *stalls]
        troubles = [] if app.tables.actives_ready else ["the tables are being read back"]
        parts = (self._relay_assignment.trouble(), self._eviction.trouble)
        return [*troubles, *(trouble for trouble in parts if trouble is not None), *stalls]

    async def _finish(self) -> None:
        """Stop fetching, and wait until the partition workers are idle."""
        if self._app.started and not self._app.crashed:
            with contextlib.suppress(Exception):  # without an assignment
                self._app.consumer.stop_flow()
        await asyncio.gather(*(workers.drain() for workers in self._workers.values()))

    async def _on_assigned(self, _: Any, assigned: Any, **__: Any) -> None:
        journal = JOURNAL.full_name(self._settings.app_id)
        await self._relay_assignment.on_assigned(any(tp.topic == journal for tp in assigned))

    def _on_restored(self) -> None:
        topic = STOCK.full_name(self._settings.app_id)
        partitions = [tp.partition for tp in self._app.consumer.assignment() if tp.topic == topic]
        self._stock.on_restored(partitions, partial(compare, self._settings.kafka, topic, **self._security))

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self.publisher.flush(FLUSH_SECONDS_MAX)

    def _refresh_metrics(self) -> None:
        lags = self._app.consumer.lags() if self._app.membership.held else {}
        self.metrics.refresh(self._relay_assignment.relay, self._settlements.newest, self._submitter.resubmitted, lags)
        self.metrics.show_stalls(self._stalls)


def _agent(follow: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:
        await follow(stream)

    return agent
