"""The API's composition root: makes, connects, serves and stops all parts of the process.

In: the settings. Out: an exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from stocktide.api.access.key_expiry import KeyExpiryAlerts
from stocktide.api.app import make_app
from stocktide.api.event_producer import InputEventProducer, make_producer
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.order_sse import OrderFeedHandler
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import ChannelFeeds, FeedHandler
from stocktide.api.handlers import health
from stocktide.api.handlers.alerts import AlertsHandler
from stocktide.api.handlers.approvals import ApprovalHandlers
from stocktide.api.handlers.audit_log import AuditLogHandler
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.intake import IntakeHandler
from stocktide.api.handlers.order_lists import OrderListHandler
from stocktide.api.handlers.orders import OrderHandlers
from stocktide.api.handlers.policies import PolicyHandlers
from stocktide.api.handlers.policy_changes import PolicyChanges
from stocktide.api.handlers.policy_history import PolicyHistoryHandlers
from stocktide.api.handlers.policy_preview import PolicyPreviewHandler
from stocktide.api.handlers.pools import PoolHandler
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.handlers.stock_list import StockListHandler
from stocktide.api.handlers.webhooks import WebhookHandlers
from stocktide.api.known_channels import KnownChannels
from stocktide.api.listen import listen
from stocktide.api.routes.route import Handlers
from stocktide.api.routes.table import make_routes
from stocktide.api.settled_reads import SettledReads
from stocktide.api.spec.served import with_documents
from stocktide.api_access import Access, make_access
from stocktide.api_drain import Drain
from stocktide.api_feeds import Feeds, make_consumer, make_feeds
from stocktide.api_health import make_health, make_metrics, process_name
from stocktide.api_ledger import LedgerParts, make_ledger_parts
from stocktide.api_policies import make_policy_requests
from stocktide.api_reports import prepare_reports
from stocktide.api_topics import make_dead_letter_log, make_dead_letters, opener, topic_calls
from stocktide.api_webhooks import prepare_webhooks
from stocktide.errors import CommandError, StartError
from stocktide.intake_settings import read_enabled_mappings
from stocktide.main_loop import configure_logging, run_main, run_unless_stopped, stop_on_signals
from stocktide.progress import report_while_waiting
from stocktide.settings import Settings, is_loopback
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.raw_records import deliver_raw_records
from stocktide.streams.topics import ALERTS, AUDIT, JOURNAL
from stocktide.streams.tracing import make_tracing
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.settlement.stalls import StallMonitor
from stocktide.traced_api import request_middlewares
from stocktide.traced_parts import record_headers
from stocktide.wait_for_servers import START_SECONDS_MAX, wait_for_servers

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

logger = logging.getLogger(__name__)

# For requests in progress: a request's own deadline and a reserve.
STOP_SECONDS_MAX = 8.0


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. 0 after an orderly stop; 1, with a sentence in the log, if it cannot start."""
    # aiokafka logs each failed attempt as an error, aiohttp each client that does not speak HTTP.
    configure_logging(settings.log_level.upper(), silent=("aiokafka", "aiohttp.server"))
    deliver_raw_records()
    try:
        run_main(serve(settings))
    except CommandError as error:
        logger.error("the API cannot start: %s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def serve(settings: Settings) -> None:
    """Start everything, serve until a signal, stop everything in reverse order. Raises CommandError."""
    stop = stop_on_signals()
    _raise_file_limit()
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(_bind(settings.host, settings.port)))
        if await run_unless_stopped(stop, _start(settings, stack, listening)):
            await stop.wait()
            logger.info("stopping")


async def _start(settings: Settings, stack: AsyncExitStack, listening: socket.socket) -> None:
    if (tracing := make_tracing("api")) is not None:
        stack.push_async_callback(tracing.stop)
    await wait_for_servers(settings, START_SECONDS_MAX)
    redis = connect(settings.redis, **settings.redis_access())
    stack.push_async_callback(redis.aclose)
    producer = make_producer(settings.kafka, **settings.kafka_access())
    consumer = make_consumer(settings, auto_offset_reset="earliest")
    offsets = make_consumer(settings)
    for client in (producer, consumer, offsets):
        stack.push_async_callback(client.stop)
        try:
            await client.start()
        except (KafkaError, OSError) as error:
            raise StartError(f"Kafka at {settings.kafka} refuses a client: {error}") from error
    feeds = await make_feeds(settings, stack, producer, consumer, offsets)
    make_webhooks = await prepare_webhooks(settings, stack, producer)
    access = make_access(settings, redis)
    name = process_name(listening)
    handlers = _make_handlers(settings, stack, redis, producer, feeds, make_webhooks, access, tracing, name)
    await handlers.readiness.check()
    reporting = report_while_waiting(logger.warning, "the API", handlers.readiness.trouble)
    for work in (feeds.source.run(), handlers.readiness.watch(), reporting, *access.watches()):
        stack.push_async_callback(_cancel, asyncio.create_task(work))
    drain = Drain(settings.drain_seconds, handlers.readiness, feeds.open_feeds)
    await _listen(handlers, feeds, stack, listening, access, request_middlewares(tracing), drain)
    stack.push_async_callback(drain.run)  # the first that runs when the process stops
    _log_address(settings, listening, len(access.ring))


def _make_handlers(
    settings: Settings,
    stack: AsyncExitStack,
    redis: Redis,
    producer: AIOKafkaProducer,
    feeds: Feeds,
    make_webhooks: Callable[[KnownChannels], WebhookHandlers],
    access: Access,
    tracing: Tracing | None,
    name: str,
) -> Handlers:
    parts = make_ledger_parts(settings, stack, redis, tracing)
    ledger, submitter, batcher, reads, stale = parts.ledger, parts.submitter, parts.batcher, parts.reads, parts.stale
    event_producer = InputEventProducer(producer, record_headers(tracing))
    stalls = _watch(settings, stack, parts, feeds, event_producer, access)
    readiness = health.Readiness(_make_checks(producer, redis, ledger, reads, feeds, stalls), feeds.notify)
    access.owners.read = partial(_read_channel, ledger, reads)
    changes = PolicyChanges(submitter, ledger, reads, settings.publish_interval_ms, settings.policy_approval_skus)
    policy_requests = make_policy_requests(settings, stack, producer, changes)
    hub = feeds.hub
    snapshots = SnapshotMonitor(hub, lambda cursor, limit: reads.settled(lambda: ledger.read_known_skus(cursor, limit)))
    channel_feeds = ChannelFeeds(
        hub, CatchUp(hub, feeds.source), parts.known, snapshots, lambda: readiness.latest, feeds.open_feeds
    )
    webhooks, letters = make_webhooks(parts.known), make_dead_letter_log(settings, stack)
    shown, series = make_health(
        settings, stack, redis, producer, name, readiness, stalls, feeds, snapshots, webhooks, letters
    )
    metrics = make_metrics(batcher, submitter, feeds, snapshots, readiness, stalls)
    metrics.listener = series.answered
    return Handlers(
        orders=OrderHandlers(batcher, ledger, reads, stale),
        approvals=ApprovalHandlers(batcher, ledger, reads, policy_requests),
        order_lists=OrderListHandler(ledger, reads, stale),
        stock=StockHandlers(ledger, reads, stale),
        stock_list=StockListHandler(ledger, reads, stale),
        audit_log=AuditLogHandler(topic_calls(settings, AUDIT)),
        alerts=AlertsHandler(topic_calls(settings, ALERTS)),
        dead_letters=make_dead_letters(settings, letters),
        pools=PoolHandler(ledger, reads),
        history=_make_history(settings, redis, ledger, reads),
        policies=PolicyHandlers(changes),
        policy_preview=PolicyPreviewHandler(changes, reads),
        policy_requests=policy_requests,
        policy_history=PolicyHistoryHandlers(changes, opener(settings, AUDIT)),
        events=EventHandlers(event_producer, settings.app_id, settings.request_seconds, parts.limits.future_ms),
        intake=IntakeHandler(event_producer, settings.app_id, read_enabled_mappings()),
        feeds=FeedHandler(channel_feeds),
        sockets=SocketHandler(channel_feeds),
        order_feeds=OrderFeedHandler(
            feeds.orders, feeds.tail, feeds.history, lambda: readiness.latest, feeds.open_feeds
        ),
        readiness=readiness,
        health=shown,
        metrics=metrics,
        pages=BoardHandlers(),
        webhooks=webhooks,
        reports=prepare_reports(settings, stack, producer),
        post_ticket=access.tickets.post,
    )


def _watch(
    settings: Settings,
    stack: AsyncExitStack,
    parts: LedgerParts,
    feeds: Feeds,
    event_producer: InputEventProducer,
    access: Access,
) -> StallMonitor:
    """Look for stalls and for keys that expire, until the stack is closed."""
    probe = health.ApiProgressProbe(
        settings.app_id, feeds.source, feeds.tail, parts.settlements, parts.batcher, event_producer
    )
    alert = partial(_alert, event_producer, settings)
    stalls = StallMonitor(probe.look, alert, f"api {settings.host}:{settings.port}")
    for watch in (stalls, KeyExpiryAlerts(access.ring.records, alert)):
        stack.push_async_callback(_cancel, asyncio.create_task(watch.run()))
    return stalls


def _make_checks(
    producer: AIOKafkaProducer, redis: Redis, ledger: Ledger, reads: SettledReads, feeds: Feeds, stalls: StallMonitor
) -> dict[str, health.Check]:
    return {
        "kafka": partial(health.check_kafka, producer),
        "redis": partial(health.check_redis, redis),
        "ledger": partial(health.check_ledger, ledger, reads),
        "feeds": partial(health.check_feeds, feeds.source),
        "stalls": partial(health.check_stalls, stalls),
    }


def _make_history(settings: Settings, redis: Redis, ledger: Ledger, reads: SettledReads) -> HistoryHandler:
    journal = JOURNAL.full_name(settings.app_id)
    open_log = partial(KafkaLog, settings.kafka, journal, **settings.kafka_access())
    return HistoryHandler(ledger, reads, LedgerControl(redis, settings.app_id).settled, open_log)


async def _read_channel(ledger: Ledger, reads: SettledReads, order_id: str) -> str | None:
    order = await reads.settled(lambda: ledger.read_order(order_id))
    return None if order is None else order.channel


async def _alert(event_producer: InputEventProducer, settings: Settings, rows: Sequence[OutputRow]) -> None:
    """Write alerts. Raises NotTaken."""
    deadline = asyncio.get_running_loop().time() + settings.request_seconds
    await event_producer.write(
        ALERTS.full_name(settings.app_id), [(key, value or b"") for key, value in rows], deadline
    )


async def _listen(
    handlers: Handlers,
    feeds: Feeds,
    stack: AsyncExitStack,
    listening: socket.socket,
    access: Access,
    outside: Sequence[Middleware],
    drain: Drain,
) -> None:
    routes = with_documents(make_routes(handlers), version("stocktide"))
    app = make_app(routes, handlers.metrics, access.guard, outside)
    handlers.metrics.watch(
        {
            "connections": ("Open connections", lambda: len(access.connections)),
            "connections_refused_total": ("Connections that were refused", lambda: access.connections.refused),
            "keys": ("Keys that the API knows", lambda: len(access.ring)),
        }
    )

    async def end_feeds(_: web.Application) -> None:
        feeds.close()

    app.on_shutdown.append(end_feeds)
    app.on_response_prepare.append(drain.close_connection)
    try:
        tls = None if access.certificate is None else access.certificate.context
        await listen(app, listening, stack, STOP_SECONDS_MAX, access.connections, tls)
    except OSError as error:  # another process took the bound port
        raise StartError(f"{listening.getsockname()} cannot be listened on: {error.strerror}") from error


def _log_address(settings: Settings, listening: socket.socket, keys: int) -> None:
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.tls_cert else "http"
    if settings.open:
        logger.warning("serving on %s://%s:%d WITHOUT KEYS (--open), for this machine only", scheme, host, port)
        return
    logger.info("serving on %s://%s:%d with the keys in %s", scheme, host, port, settings.keys_path)
    if not keys:
        logger.warning("there is no key yet, so every call is refused: `stocktide keys add` makes one")
    if not settings.tls_cert and not is_loopback(settings.host):
        logger.warning("keys are sent without TLS: set STOCKTIDE_TLS_CERT, or put a proxy with TLS before it")


def _bind(host: str, port: int) -> socket.socket:
    """Bind the port before anything else starts. Raises StartError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"port {port} on {host} cannot be bound: {reason}; set STOCKTIDE_PORT") from error
    return listening


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _raise_file_limit() -> None:
    """Each subscriber needs a file descriptor; the usual soft limit is 1,024."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
