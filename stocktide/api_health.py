"""Makes what an API process shows of the health of the system, and what it says of itself.

In: the settings, and the parts of the process. Out: handlers; tasks that run until the stack is closed.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from functools import partial

from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from stocktide.api.batching import CommandBatcher
from stocktide.api.dead_letter_log import DeadLetterLog
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.handlers.health import Readiness
from stocktide.api.handlers.system_health import SystemHealthHandlers
from stocktide.api.handlers.webhooks import WebhookHandlers
from stocktide.api.health.observer import KafkaClients, OwnParts, SystemObserver
from stocktide.api.health.series import ProcessSeries
from stocktide.api.metrics import ApiMetrics
from stocktide.api_feeds import Feeds, make_consumer
from stocktide.settings import Settings
from stocktide.streams.contract.documents import ProcessStatus
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.shutdown import end
from stocktide.streams.topics import PROCESSES
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.process_reporter import ProcessReporter, stalled_parts
from stocktide.tables.settlement.stalls import StallMonitor


def process_name(listening: socket.socket) -> str:
    """This process among all of the installation."""
    return f"api {socket.gethostname()}:{listening.getsockname()[1]}"


def make_health(
    settings: Settings,
    stack: AsyncExitStack,
    redis: Redis,
    producer: AIOKafkaProducer,
    name: str,
    readiness: Readiness,
    stalls: StallMonitor,
    feeds: Feeds,
    snapshots: SnapshotMonitor,
    webhooks: WebhookHandlers,
    letters: DeadLetterLog,
) -> tuple[SystemHealthHandlers, ProcessSeries]:
    """The handlers, and the series to be fed. This process is reported until the stack is closed."""

    def status() -> ProcessStatus:
        reasons = [f"{check}: {reason}" for check, reason in readiness.latest.reasons.items()]
        return ProcessStatus(
            process=name, kind="api", at=rfc3339(now_ms()), reasons=reasons, stalls=stalled_parts(stalls.found)
        )

    own = OwnParts(lambda: readiness.latest, status, webhooks.answers, letters.count_open, lambda: len(snapshots.late))
    observer = SystemObserver(settings.app_id, redis, partial(_open_clients, settings), own)
    stack.push_async_callback(observer.close)
    series = ProcessSeries(lambda: sum(feeds.hub.position) if feeds.source.complete.is_set() else None)
    reporter = ProcessReporter(producer, PROCESSES.full_name(settings.app_id), name, status)
    stack.push_async_callback(reporter.remove)
    for work in (reporter.run(), series.run()):
        stack.push_async_callback(end, asyncio.create_task(work, name="health"))
    return SystemHealthHandlers(observer, series), series


async def _open_clients(settings: Settings, stack: AsyncExitStack) -> KafkaClients:
    consumer = make_consumer(settings, group_id=None)
    stack.push_async_callback(consumer.stop)  # also after a start that failed
    await consumer.start()
    admin = await stack.enter_async_context(admin_client(settings.kafka, **settings.kafka_access()))
    return KafkaClients(consumer, admin)


def make_metrics(
    batcher: CommandBatcher,
    submitter: Submitter,
    feeds: Feeds,
    snapshots: SnapshotMonitor,
    readiness: Readiness,
    stalls: StallMonitor,
) -> ApiMetrics:
    """The metrics, with those that are read when they are asked for."""
    metrics = ApiMetrics()
    metrics.register_stall_gauges(stalls)
    metrics.watch(
        {
            "waiting_commands": ("Commands that wait for a call of the ledger", lambda: batcher.waiting),
            "feed_readers": ("Subscribers of feeds", lambda: feeds.hub.readers),
            "feed_rows": ("Channel updates held for the feeds", lambda: feeds.hub.rows),
            "order_feed_readers": ("Subscribers of feeds of orders", lambda: feeds.orders.readers),
            "order_feed_bytes": ("Bytes of changes held for the feeds of orders", lambda: feeds.orders.bytes),
            "order_feed_late_readers": (
                "Subscribers that get from Kafka what they missed",
                lambda: feeds.history.readers,
            ),
            "feed_late_channels": (
                "Channels whose feeds wait long for a SKU that is known",
                lambda: len(snapshots.late),
            ),
            "resubmitted_batches_total": ("Calls of the ledger that were made again", lambda: submitter.resubmitted),
            "ready": ("1 while /readyz says so", lambda: float(readiness.latest.ready)),
        }
    )
    return metrics
