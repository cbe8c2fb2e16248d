"""What both roles of a worker have: a Faust app with its group, a publisher, agents, timers.

In: the settings, a group. Out: a role that joins its group, works, and stops in order. `worker_deciding` and
`worker_publishing` are the roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.dead_letters import RefusedRowHandler
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.errors import StartError, StocktideError
from stocktide.settings import Settings
from stocktide.streams.app import chunk_topic, make_app
from stocktide.streams.kafka.publish import OutputRow, Publisher, make_producer
from stocktide.streams.topics import ALERTS, DEAD_LETTERS, Topic
from stocktide.traced_parts import record_headers

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

logger = logging.getLogger(__name__)

# Time for chunks in progress when the worker stops; unsettled ones are processed again after the restart.
FINISH_SECONDS_MAX = 2.0
# Faust waits for its threads when it stops.
STOP_SECONDS_MAX = 8.0
# A revocation waits this long for rows in flight, so that the successor's rows come later.
FLUSH_SECONDS_MAX = 3.0


class WorkerFailed(StocktideError):
    """A part ended that should run for ever."""


class WorkerRole:
    """One role. `group` is its consumer group, `member` this worker's name in it."""

    # Only the publishing role has one.
    stock: StockAgent | None = None

    def __init__(
        self, settings: Settings, group: str, member: str, metrics: WorkerMetrics, tracing: Tracing | None = None
    ) -> None:
        self._settings = settings
        self._security = settings.kafka_access()
        self.metrics = metrics
        self.app = make_app(
            group=group,
            member=member,
            kafka=settings.kafka,
            folder=settings.data / "tables" / settings.worker_name,
            partitions=settings.partitions,
            replication=settings.replication or 1,
            security=self._security,
        )
        producer = make_producer(settings.kafka, **self._security)
        self.publisher = Publisher(producer, self.app.membership, self._set_aside, record_headers(tracing))
        self._refused_rows = RefusedRowHandler(
            self.publisher.publish, DEAD_LETTERS.full_name(settings.app_id), ALERTS.full_name(settings.app_id)
        )
        self.workers: dict[Topic, PartitionWorkers] = {}
        self._timers: list[asyncio.Task[None]] = []
        self.app.on_partitions_revoked.connect(self._on_revoked)

    async def start(self) -> None:
        """Join the group and begin. Raises StartError."""
        try:
            await self.app.start()
        except (KafkaError, OSError) as error:
            raise StartError(f"the worker cannot join its group on Kafka: {error}") from error

    def raise_if_failed(self) -> None:
        """Raise WorkerFailed if a part has ended."""
        if self.app.crashed:
            raise WorkerFailed(f"the stream processor failed: {self.app.crash_reason!r}")
        for timer in self._timers:
            if timer.done():
                raise WorkerFailed(f"{timer.get_name()} ended: {timer.exception()!r}")

    async def stop(self) -> None:
        """Finish chunks in progress, commit, and leave the group, each within a bounded time."""
        for timer in self._timers:
            timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await self._finish()
        for workers in self.workers.values():
            await workers.stop()
        if self.stock is not None:
            await self.stock.stop()
        try:
            await asyncio.wait_for(self.app.stop(), STOP_SECONDS_MAX)
        except TimeoutError:
            logger.warning("the stream processor did not stop within %.0f s", STOP_SECONDS_MAX)

    def troubles(self) -> list[str]:
        """Why this role is not ready; empty where it is."""
        if not self.app.membership.held:
            return ["no partitions were assigned yet"]
        return [] if self.app.tables.actives_ready else ["the tables are being read back"]

    def lags(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → uncommitted records."""
        return self.app.consumer.lags() if self.app.membership.held else {}

    def _consume(self, topic: Topic, follow: Callable[[Any], Awaitable[None]]) -> None:
        async def agent(stream: Any) -> None:
            await follow(stream)

        self.app.agent(chunk_topic(self.app, self._settings.app_id, topic), name=topic.name)(agent)

    def _run(self, name: str, timer: Coroutine[Any, Any, None]) -> None:
        self._timers.append(asyncio.create_task(timer, name=name))

    async def _finish(self) -> None:
        """Stop fetching, and wait until the partition workers are idle."""
        if self.app.started and not self.app.crashed:
            with contextlib.suppress(Exception):  # without an assignment
                self.app.consumer.stop_flow()
        await asyncio.gather(*(workers.drain() for workers in self.workers.values()))

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self.publisher.flush(FLUSH_SECONDS_MAX)

    async def _set_aside(self, topic: str, partition: int, row: OutputRow, error: KafkaError, epoch: int) -> None:
        await self._refused_rows.set_aside(topic, partition, row, error, epoch)
