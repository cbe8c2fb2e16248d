"""The role that publishes: the journal → the derived topics → `channel-stock`; tables, trimming.

In: the settings. Out: a role of `stocktide worker`. It needs no Redis, and no answer waits for it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.channel_stock.compare import compare
from stocktide.agents.days.follower import FETCH_MS, DayFollower
from stocktide.agents.derive.agent import DailyTotals, Derivation
from stocktide.agents.maintenance.restate import JournalTrimmer
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.publication_tick import PublicationTick
from stocktide.errors import StartError
from stocktide.settings import Settings
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.trim import trim_journal
from stocktide.streams.kafka.groups import adopt_offsets, publishing_group
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.read_topic import topic_consumer
from stocktide.streams.topics import ALERTS, CHANNEL_STOCK, DAILY, DEAD_LETTERS, JOURNAL, JOURNAL_POSITIONS, STOCK
from stocktide.tables.changelog_table import make_published_table
from stocktide.tables.recovery.checkpoints import read_checkpoints
from stocktide.traced_agents import make_agent_traces
from stocktide.worker_role import WorkerRole

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

# The journal's partition whose owner trims it.
SHARD = 0


class PublishingRole(WorkerRole):
    """Publishes."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics, tracing: Tracing | None = None) -> None:
        member = f"{settings.worker_name}-publish"
        super().__init__(settings, publishing_group(settings.app_id), member, metrics, tracing)
        app_id = settings.app_id
        positions_topic, updates_topic = JOURNAL_POSITIONS.full_name(app_id), CHANNEL_STOCK.full_name(app_id)
        positions = make_published_table(self.app, "journal_positions", positions_topic, 1)
        updates = make_published_table(self.app, "channel_stock", updates_topic, settings.partitions)
        daily_topic, zone = DAILY.full_name(app_id), settings.zone()
        daily = make_published_table(self.app, "daily", daily_topic, 1)
        tick = PublicationTick(time.monotonic)
        open_log = partial(KafkaLog, settings.kafka, JOURNAL.full_name(app_id), **self._security)
        traces = make_agent_traces(tracing)
        derivation = Derivation(
            *(positions, positions_topic, self.publisher, app_id, metrics, tick.work, open_log),
            DailyTotals(daily, daily_topic, zone),
            traces.deriving,
        )
        followed = {topic.full_name(app_id): topic for topic in (ALERTS, DEAD_LETTERS)}
        self._days = DayFollower(
            DailyTotals(daily, daily_topic, zone),
            self.publisher,
            followed,
            partial(topic_consumer, settings.kafka, *followed, fetch_max_wait_ms=FETCH_MS, **self._security),
            self._owns_journal,
        )
        workers = PartitionWorkers(JOURNAL.name, derivation.derive, self.app.membership, tick)
        self.workers[JOURNAL] = workers
        self.stock = StockAgent(
            *(updates, self.publisher, updates_topic, ALERTS.full_name(app_id)),
            *(settings.publish_interval_ms, metrics, tick, traces.make_update_traces),
        )
        self._consume(JOURNAL, workers.follow)
        self._consume(STOCK, self.stock.follow)
        self.app.on_restored = self._on_restored

    async def start(self) -> None:
        """See `WorkerRole`."""
        settings = self._settings
        try:
            await adopt_offsets(settings.kafka_client(), settings.app_id)
        except (KafkaError, OSError) as error:
            raise StartError(f"the worker cannot read the offsets of its groups: {error}") from error
        await super().start()
        self._run("daily totals", self._days.run())
        self._run("trimming", self._make_trimmer().run())

    def _make_trimmer(self) -> JournalTrimmer:
        settings, publisher, app_id = self._settings, self.publisher, self._settings.app_id

        async def write_positions(rows: list[OutputRow]) -> None:
            topic = JOURNAL_POSITIONS.full_name(app_id)
            await publisher.publish(topic, rows, publisher.epoch, to_partition=lambda _: SHARD)

        checkpoints = partial(read_checkpoints, settings.kafka, app_id, **self._security)
        trim = partial(trim_journal, settings.kafka, app_id, **self._security)
        return JournalTrimmer(checkpoints, trim, write_positions, self._owns_journal)

    def _owns_journal(self) -> bool:
        place = (JOURNAL.full_name(self._settings.app_id), SHARD)
        return not self.troubles() and any((tp.topic, tp.partition) == place for tp in self.app.consumer.assignment())

    def _on_restored(self) -> None:
        assert self.stock is not None
        topic = STOCK.full_name(self._settings.app_id)
        partitions = [tp.partition for tp in self.app.consumer.assignment() if tp.topic == topic]
        self.stock.on_restored(partitions, partial(compare, self._settings.kafka, topic, **self._security))
