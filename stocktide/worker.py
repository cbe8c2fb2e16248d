"""The worker's composition root: every part is made here, wired here, and stopped here, in order.

In: the settings. Out: an exit status. Two clients of Redis: one for what agents submit, one for the relay, whose
blocking read would else hold a connection of theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.channel_stock.compare import compare
from stocktide.agents.dead_letters import RefusedRowHandler
from stocktide.agents.derive.agent import Derivation
from stocktide.agents.endpoint import EvictionMonitor, WorkerEndpoint
from stocktide.agents.intake import Intake, settle_movements, settle_orders
from stocktide.agents.maintenance.audit_schedule import AuditSchedule, run_audit_process
from stocktide.agents.maintenance.expiry import run_expiry
from stocktide.agents.maintenance.snapshots import JournalTrimmer, SnapshotRefresh
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.progress import KafkaProbe, RedisProbe, WorkerProgress
from stocktide.agents.relay import Relay
from stocktide.agents.relay_assignment import RelayAssignment
from stocktide.errors import StartError, StocktideError
from stocktide.progress import report_while_waiting
from stocktide.settings import Settings
from stocktide.streams.app import App, chunk_topic, make_app
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.trim import trim_journal
from stocktide.streams.kafka.admin import REQUEST_MS_MAX
from stocktide.streams.kafka.publish import OutputRow, Publisher, make_producer
from stocktide.streams.shutdown import force_exit
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
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.recovery.checkpoints import read_checkpoints
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import StallMonitor, StepStatus

logger = logging.getLogger(__name__)

# A server that is not there at the start: it may be starting too.
CONNECT_TRIES_MAX = 10
CONNECT_PAUSE_SECONDS = 1.0
# Chunks under way when we are told to stop get this long; what is not settled by then is done again after the start.
FINISH_SECONDS_MAX = 2.0
# Faust's own stopping, which waits for threads.
STOP_SECONDS_MAX = 8.0
# A revocation waits this long for rows under way, so that the successor's come later.
FLUSH_SECONDS_MAX = 3.0
# Rows are derived at most this often: a small batch costs a produce request for each of a dozen partitions, whether it
# holds one row or a hundred. Small against what a person or a storefront notices.
DERIVE_SECONDS_MIN = 0.01
# Faust's consumer lives in a thread of its own. The relay, whom shoppers wait for, shares the loop of the main one, and
# gets its turn within half a millisecond instead of the interpreter's five.
SWITCH_SECONDS = 0.0005
# How often the parts are looked at.
WATCH_SECONDS = 0.5
# Standing rows and caches are long-lived: collecting them often only costs time.
GC_THRESHOLD = (50_000, 50, 100)


class WorkerFailed(StocktideError):
    """A part ended that should run for ever."""


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT. 0 after an orderly stop; 1, with a sentence in the log, otherwise."""
    _set_up_logging(settings.log_level.upper())
    gc.set_threshold(*GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        _run_loop(settings)
    except (StartError, WorkerFailed) as error:
        logger.error("%s", error)
        status = 1
    except KeyboardInterrupt:
        status = 130
    else:
        status = 0
    force_exit(status)
    return status


async def work(settings: Settings) -> None:
    """Start everything, work until told to stop, stop everything. Raises StartError, WorkerFailed."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(settings, stack))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        worker = await starting
        watching = asyncio.create_task(worker.watch())
        await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        logger.info("stopping")
        if watching.done():
            stopping.cancel()
            await watching
        watching.cancel()


async def _start(settings: Settings, stack: AsyncExitStack) -> Worker:
    access = settings.redis_access()
    redis, relay_redis = connect(settings.redis, **access), connect(settings.redis, **access)
    for client in (redis, relay_redis):
        stack.push_async_callback(client.aclose)
    await _reached("Redis", settings.redis.rpartition("@")[2], redis.ping, (RedisError, OSError))
    worker = Worker(settings, redis, relay_redis)
    await _reached("Kafka", settings.kafka, worker.publisher.start, (KafkaError, OSError))
    stack.push_async_callback(worker.publisher.stop)
    stack.push_async_callback(worker.service.stop)
    try:
        port = await worker.service.start(settings.host, settings.worker_port)
    except OSError as error:
        where = f"port {settings.worker_port} on {settings.host} cannot be used: {error.strerror}"
        raise StartError(f"the worker's endpoint cannot listen: {where}; set STOCKTIDE_WORKER_PORT") from error
    stack.push_async_callback(worker.stop)
    telling = report_while_waiting(logger.warning, "the worker", lambda: "; ".join(worker.troubles()) or None)
    stack.callback(asyncio.create_task(telling, name="telling").cancel)
    logger.info("Redis and Kafka answer; the worker joins its group")
    await worker.start()
    logger.info("worker %s serves /readyz and /metrics on port %d", settings.worker_name, port)
    return worker


async def _reached(
    what: str, where: str, call: Callable[[], Awaitable[Any]], errors: tuple[type[Exception], ...]
) -> None:
    for tries_left in reversed(range(CONNECT_TRIES_MAX)):
        try:
            await call()
            return
        except errors as error:
            if not tries_left:
                raise StartError(f"{what} cannot be reached at {where}: {error}") from error
            logger.info("%s is not there at %s yet, %d tries left: %s", what, where, tries_left, error)
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


class Worker:
    """All parts of one worker, wired; `start`, `watch`, `stop`."""

    def __init__(self, settings: Settings, redis: Redis, relay_redis: Redis) -> None:
        self._settings = settings
        # What lets a client into Kafka.
        self._security = settings.kafka_access()
        app_id = settings.app_id
        self.metrics = WorkerMetrics()
        self._settlements = SettlementListener(redis, app_id)
        self._limits = LedgerLimits(
            outbox_max=settings.outbox_max,
            park_ms=settings.park_seconds * 1000,
            future_ms=settings.future_seconds_max * 1000,
        )
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
            make_producer(settings.kafka, **self._security), self._app.membership, self._set_row_aside
        )
        self._refused_rows = RefusedRowHandler(
            self.publisher.publish, DEAD_LETTERS.full_name(app_id), ALERTS.full_name(app_id)
        )
        self._shard = RelayAssignment(partial(self._make_relay, relay_redis))
        self._lanes, self._stock = self._make_agents(self._app)
        self._app.on_partitions_assigned.connect(self._on_assigned)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._app.on_rebalance_complete.connect(self._on_recovered)
        self.service = WorkerEndpoint(self.metrics.registry, self.troubles, self._refresh)
        self._eviction = EvictionMonitor(redis)
        self._timers: list[asyncio.Task[None]] = []
        self._redis = redis
        self._steps = {"expiry": StepStatus()}
        self._kafka_look = KafkaProbe(self._make_consumer)
        self._stalls = StallMonitor(self._make_progress().statuses, self._alert, f"worker {settings.worker_name}")

    def _make_consumer(self) -> AIOKafkaConsumer:
        client = self._settings.kafka_client()
        return AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False, request_timeout_ms=REQUEST_MS_MAX)

    def _make_progress(self) -> WorkerProgress:
        settings = self._settings
        return WorkerProgress(
            settings.app_id,
            self._app,
            self._lanes,
            self._stock,
            lambda: self._shard.relay,
            self.publisher,
            self._submitter,
            self._steps,
            RedisProbe(self._redis, settings.app_id, settings.tick_ms),
            self._kafka_look,
        )

    async def _alert(self, rows: list[OutputRow]) -> None:
        await self.publisher.publish(ALERTS.full_name(self._settings.app_id), rows, self.publisher.epoch)

    async def _set_row_aside(self, topic: str, partition: int, row: OutputRow, error: KafkaError, epoch: int) -> None:
        await self._refused_rows.set_aside(topic, partition, row, error, epoch)

    def _make_relay(self, redis: Redis, assigned: Callable[[], bool]) -> Relay:
        settings = self._settings
        log = KafkaLog(settings.kafka, JOURNAL.full_name(settings.app_id), **self._security)
        owner = f"{settings.worker_name}-{os.getpid()}-{secrets.token_hex(4)}"
        source = DerivedTopics(settings.kafka, settings.app_id, **self._security)
        return Relay(
            log, LedgerControl(redis, settings.app_id), owner, source=source, limits=self._limits, assigned=assigned
        )

    def _make_upkeep(self) -> tuple[SnapshotRefresh, JournalTrimmer]:
        settings, publisher, app_id = self._settings, self.publisher, self._settings.app_id

        async def keys() -> int:
            return int(await self._redis.dbsize())

        async def forget(rows: list[OutputRow]) -> None:
            topic = JOURNAL_POSITIONS.full_name(app_id)
            await publisher.publish(topic, rows, publisher.epoch, to_partition=lambda _: 0)

        restating = SnapshotRefresh(self._submitter, keys, self._owns, settings.restate_seconds)
        checkpoints = partial(read_checkpoints, settings.kafka, app_id, **self._security)
        trim = partial(trim_journal, settings.kafka, app_id, **self._security)
        return restating, JournalTrimmer(checkpoints, trim, forget, self._owns)

    def _make_auditing(self) -> AuditSchedule:
        settings = self._settings
        audit = partial(run_audit_process, {**os.environ, **settings.as_environment()})
        alerts = ALERTS.full_name(settings.app_id)
        return AuditSchedule(audit, self._owns, settings.audit_interval, self.publisher, alerts, self.metrics)

    def _owns(self) -> bool:
        return self._shard.relay is not None and self._shard.relay.blessed

    def _make_agents(self, app: App) -> tuple[dict[Topic, PartitionWorkers], StockAgent]:
        app_id, publisher, metrics = self._settings.app_id, self.publisher, self.metrics
        positions_topic, updates_topic = JOURNAL_POSITIONS.full_name(app_id), CHANNEL_STOCK.full_name(app_id)
        positions = make_published_table(app, "journal_positions", positions_topic, 1)
        updates = make_published_table(app, "channel_stock", updates_topic, self._settings.partitions)
        intake = Intake(self._submitter, publisher, DEAD_LETTERS.full_name(app_id), ALERTS.full_name(app_id), metrics)
        derivation = Derivation(positions, positions_topic, publisher, app_id, metrics)
        stock = StockAgent(updates, publisher, updates_topic, self._settings.publish_interval_ms, metrics)
        membership = app.membership
        lanes = {
            ORDERS: PartitionWorkers(ORDERS.name, partial(settle_orders, intake=intake), membership),
            MOVEMENTS: PartitionWorkers(MOVEMENTS.name, partial(settle_movements, intake=intake), membership),
            JOURNAL: PartitionWorkers(
                JOURNAL.name, derivation.derive, membership, DERIVE_SECONDS_MIN, derivation.busy_seconds
            ),
        }
        for topic, lane in lanes.items():
            app.agent(chunk_topic(app, topic), name=topic.name)(_agent(lane.follow))
        app.agent(chunk_topic(app, STOCK), name=STOCK.name)(_agent(stock.follow))
        return lanes, stock

    async def start(self) -> None:
        """Join the group and begin. Raises StartError."""
        self._settlements.start()
        self._eviction.start()
        try:
            await self._app.start()
        except (KafkaError, OSError) as error:
            raise StartError(f"the worker cannot join its group on Kafka: {error}") from error
        restating, trimming = self._make_upkeep()
        self._steps["restating"] = restating.steps
        for name, run in (
            ("expiry", run_expiry(self._submitter, self.metrics, self._settings.tick_ms, self._steps["expiry"])),
            ("restating", restating.run()),
            ("trimming", trimming.run()),
            ("stalls", self._stalls.run()),
        ):
            self._timers.append(asyncio.create_task(run, name=name))
        if self._settings.audit_interval:
            self._timers.append(asyncio.create_task(self._make_auditing().run(), name="auditing"))

    async def watch(self) -> None:
        """Return never; raises WorkerFailed when a part has ended."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._app.crashed:
                raise WorkerFailed(f"the stream processor failed: {self._app.crash_reason!r}")
            for timer in self._timers:
                if timer.done():
                    raise WorkerFailed(f"{timer.get_name()} ended: {timer.exception()!r}")

    async def stop(self) -> None:
        """Finish what is under way within seconds, commit, leave the group, end the relay."""
        for timer in self._timers:
            timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await self._finish()
        for lanes in self._lanes.values():
            await lanes.stop()
        await self._stock.stop()
        try:
            await asyncio.wait_for(self._app.stop(), STOP_SECONDS_MAX)
        except TimeoutError:
            logger.warning("the stream processor did not stop within %.0f s", STOP_SECONDS_MAX)
        await self._shard.stop()
        await self._settlements.stop()
        await self._eviction.stop()
        await self._kafka_look.stop()

    def troubles(self) -> list[str]:
        """Why this worker is not ready; nothing where it is."""
        app, stalls = self._app, self._stalls.sentences
        if not app.membership.held:
            return ["no partitions were assigned yet", *stalls]
        troubles = [] if app.tables.actives_ready else ["the tables are being read back"]
        found = (found for found in (self._shard.trouble(), self._eviction.trouble) if found is not None)
        return [*troubles, *found, *stalls]

    async def _finish(self) -> None:
        """Fetch no more, and wait until the lanes are empty."""
        if self._app.started and not self._app.crashed:
            with contextlib.suppress(Exception):  # it may not have been assigned anything
                self._app.consumer.stop_flow()
        await asyncio.gather(*(lanes.drain() for lanes in self._lanes.values()))

    async def _on_assigned(self, _: Any, assigned: Any, **__: Any) -> None:
        journal = JOURNAL.full_name(self._settings.app_id)
        await self._shard.on_assigned(any(tp.topic == journal for tp in assigned))

    async def _on_recovered(self, *_: Any, **__: Any) -> None:
        topic = STOCK.full_name(self._settings.app_id)
        partitions = [tp.partition for tp in self._app.consumer.assignment() if tp.topic == topic]
        comparison = partial(compare, self._settings.kafka, topic, **self._security)
        await self._stock.on_assigned(partitions, comparison)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self.publisher.flush(FLUSH_SECONDS_MAX)

    def _refresh(self) -> None:
        lags = self._app.consumer.lags() if self._app.membership.held else {}
        self.metrics.refresh(self._shard.relay, self._settlements.newest, self._submitter.resubmitted, lags)
        self.metrics.show_stalls(self._stalls)


def _agent(follow: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:
        await follow(stream)

    return agent


def _run_loop(settings: Settings) -> None:
    try:
        import uvloop
    except ImportError:  # not on every platform; slower without
        asyncio.run(work(settings))
    else:
        uvloop.run(work(settings))


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if level != "DEBUG":
        # Faust's services tell each start and stop, under the names of their modules.
        for name in (
            "faust",
            "mode",
            "stocktide.streams.app",
            "stocktide.streams.kafka.transport",
            "stocktide.tables.changelog_table",
        ):
            logging.getLogger(name).setLevel(logging.WARNING)
        # aiokafka tells each failed attempt as an error.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
