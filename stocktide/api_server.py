"""The API's composition root: everything is made, connected, served and stopped here.

In: settings. Out: an exit status, once the process was told to stop or cannot start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address

from aiohttp import web
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from stocktide.api.app import make_app
from stocktide.api.batching import CommandBatcher
from stocktide.api.event_producer import EventProducer, make_producer
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.consumer import ChannelStockConsumer
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.sse import FeedHandler
from stocktide.api.handlers import health
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.orders import OrderHandlers
from stocktide.api.handlers.policies import PolicyHandlers
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.known_channels import KnownChannels
from stocktide.api.listen import listen
from stocktide.api.metrics import ApiMetrics
from stocktide.api.openapi import make_openapi_document
from stocktide.api.routes import Handlers, make_routes
from stocktide.api.settled_reads import SettledReads
from stocktide.api_connections import connect_kafka, connect_redis, count_partitions, make_consumer
from stocktide.errors import StartError
from stocktide.progress import report_while_waiting
from stocktide.settings import Settings
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.topics import ALERTS, CHANNEL_STOCK, JOURNAL
from stocktide.tables.ledger.client import KnownSkus, Ledger, LedgerLimits
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import StallMonitor

log = logging.getLogger(__name__)

# Requests under way get this long at the end: a request's own deadline and a little more.
STOP_SECONDS_MAX = 8.0


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. 0 after an orderly stop; 1, with a sentence in the log, if it cannot start."""
    level = settings.log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # aiokafka tells each failed attempt as an error, aiohttp each client that speaks no HTTP; ours are told by us.
    for chatty in ("aiokafka", "aiohttp.server"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL if level != "DEBUG" else level)
    try:
        _run_loop(settings)
    except StartError as error:
        log.error("the API cannot start: %s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run_loop(settings: Settings) -> None:
    try:
        import uvloop
    except ImportError:  # not on every platform; slower without
        asyncio.run(serve(settings))
    else:
        uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Make everything, serve, and take it apart in reverse. Raises StartError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _raise_file_limit()
    # What the hub holds lives long: full collections over millions of rows would only cost time.
    gc.set_threshold(50_000, 50, 100)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(_bind(settings.host, settings.port)))
        starting = asyncio.create_task(_start(settings, stack, listening))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        await starting
        await stopping
        log.info("stopping")


async def _start(settings: Settings, stack: AsyncExitStack, listening: socket.socket) -> None:
    redis = await connect_redis(settings.redis, **settings.redis_access())
    stack.push_async_callback(redis.aclose)
    security = settings.kafka_access()
    producer = await connect_kafka(settings.kafka, lambda: make_producer(settings.kafka, **security))
    stack.push_async_callback(producer.stop)
    consumer = await connect_kafka(settings.kafka, lambda: make_consumer(settings.kafka, **security))
    stack.push_async_callback(consumer.stop)
    topic = CHANNEL_STOCK.full_name(settings.app_id)
    hub = Hub(await count_partitions(producer, topic))
    source = ChannelStockConsumer(consumer, topic, hub)
    handlers = _make_handlers(settings, stack, redis, producer, hub, source)
    await handlers.readiness.check()
    telling = report_while_waiting(log.warning, "the API", handlers.readiness.trouble)
    for work in (source.run(), handlers.readiness.watch(), telling):
        stack.push_async_callback(_cancelled, asyncio.create_task(work))
    await _listen(handlers, hub, stack, listening)
    _tell_address(settings, listening)


def _make_handlers(
    settings: Settings,
    stack: AsyncExitStack,
    redis: Redis,
    producer: AIOKafkaProducer,
    hub: Hub,
    source: ChannelStockConsumer,
) -> Handlers:
    settlements = SettlementListener(redis, settings.app_id)
    settlements.start()
    stack.push_async_callback(settlements.stop)
    limits = LedgerLimits(
        outbox_max=settings.outbox_max,
        park_ms=settings.park_seconds * 1000,
        future_ms=settings.future_seconds_max * 1000,
    )
    ledger = Ledger(redis, settings.app_id, limits)
    submitter = Submitter(ledger, settlements)
    reads = SettledReads(settlements)
    batcher = CommandBatcher(submitter)
    stack.push_async_callback(batcher.close)
    known = KnownChannels(submitter)
    stack.push_async_callback(known.close)
    event_producer = EventProducer(producer)
    standings = health.ApiProgressProbe(settings.app_id, source, settlements, batcher, event_producer)
    stalls = StallMonitor(
        standings.look, partial(_alert, event_producer, settings), f"api {settings.host}:{settings.port}"
    )
    stack.push_async_callback(_cancelled, asyncio.create_task(stalls.run()))
    checks = {
        "kafka": health.kafka_check(producer),
        "redis": health.redis_check(redis),
        "ledger": health.ledger_check(ledger, reads),
        "feeds": health.feeds_check(source),
        "stalls": health.stalls_check(stalls),
    }
    seconds = settings.request_seconds
    snapshots = SnapshotMonitor(hub, partial(_read_known, ledger, reads, seconds))
    readiness = health.Readiness(checks, lambda status: hub.notify("status", status))
    return Handlers(
        orders=OrderHandlers(batcher, ledger, reads, seconds),
        stock=StockHandlers(ledger, reads, seconds),
        history=HistoryHandler(
            ledger,
            reads,
            LedgerControl(redis, settings.app_id).settled,
            partial(KafkaLog, settings.kafka, JOURNAL.full_name(settings.app_id), **settings.kafka_access()),
            seconds,
        ),
        policies=PolicyHandlers(submitter, ledger, reads, seconds, settings.publish_interval_ms),
        events=EventHandlers(event_producer, settings.app_id, seconds, limits.future_ms),
        feeds=FeedHandler(hub, CatchUp(hub, source), known, snapshots, lambda: readiness.latest),
        readiness=readiness,
        metrics=_make_metrics(batcher, submitter, hub, snapshots, readiness, stalls),
        pages=BoardHandlers(),
    )


async def _read_known(ledger: Ledger, reads: SettledReads, seconds: float, cursor: str, limit: int) -> KnownSkus:
    deadline = asyncio.get_running_loop().time() + seconds
    return await reads.settled(lambda: ledger.read_known_skus(cursor, limit), deadline)


async def _alert(event_producer: EventProducer, settings: Settings, rows: Sequence[OutputRow]) -> None:
    """Write alerts of stalls. Raises NotTaken."""
    deadline = asyncio.get_running_loop().time() + settings.request_seconds
    await event_producer.write(
        ALERTS.full_name(settings.app_id), [(key, value or b"") for key, value in rows], deadline
    )


def _make_metrics(
    batcher: CommandBatcher,
    submitter: Submitter,
    hub: Hub,
    snapshots: SnapshotMonitor,
    readiness: health.Readiness,
    stalls: StallMonitor,
) -> ApiMetrics:
    metrics = ApiMetrics()
    metrics.register_stall_gauges(stalls)
    metrics.watch(
        {
            "commands_waiting": ("Commands that wait for a call of the ledger", lambda: batcher.waiting),
            "feed_readers": ("Subscribers of feeds", lambda: hub.readers),
            "feed_rows": ("Channel updates held for the feeds", lambda: hub.rows),
            "feeds_late": ("Channels whose feeds wait long for a SKU that is known", lambda: len(snapshots.late)),
            "resubmitted": ("Calls of the ledger that were made again", lambda: submitter.resubmitted),
            "ready": ("1 while /readyz says so", lambda: float(readiness.latest["ready"])),
        }
    )
    return metrics


async def _listen(handlers: Handlers, hub: Hub, stack: AsyncExitStack, listening: socket.socket) -> None:
    routes = make_routes(handlers)
    app = make_app(routes, handlers.metrics, make_openapi_document(routes, version("stocktide")))

    async def end_feeds(_: web.Application) -> None:
        hub.close()

    app.on_shutdown.append(end_feeds)
    try:
        await listen(app, listening, stack, STOP_SECONDS_MAX)
    except OSError as error:  # another process took the port since we bound it
        raise StartError(f"{listening.getsockname()} cannot be listened on: {error.strerror}") from error


def _tell_address(settings: Settings, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if _is_loopback(settings.host):
        log.info("serving on http://%s:%d, for this machine only: there are no keys yet", host, port)
    else:
        log.warning("serving on http://%s:%d WITHOUT KEYS: whoever reaches it may change stock", host, port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything else is started. Raises StartError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"port {port} on {host} cannot be bound: {reason}; set STOCKTIDE_PORT") from error
    return listening


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _raise_file_limit() -> None:
    """A subscriber is a file: the usual soft limit of 1,024 is too few."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
