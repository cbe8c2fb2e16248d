"""Liveness, readiness, and the progress of an API process.

In: named checks, each of which returns a reason or None. Out: `/healthz` (the process answers), `/readyz` (it can work,
else 503 with reasons), a callback when readiness changes, and the status of each part that can stall (rule 48).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError, KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.api import problems
from stocktide.api.batching import CommandBatcher
from stocktide.api.event_producer import InputEventProducer
from stocktide.api.feeds.consumer import ChannelStockConsumer, TopicConsumer
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.order_tail import OrderTail
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import Status
from stocktide.streams.topics import CHANNEL_STOCK, JOURNAL, RESERVATIONS
from stocktide.tables.ledger.client import Ledger, LedgerError
from stocktide.tables.ledger.connection import check_eviction_policy
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import PartStatus, StallMonitor, describe_error

# The cheapest read; every read performs the same checks.
NO_ORDER = "-"

Check = Callable[[], Awaitable[str | None]]

# The interval of the checks, and so the delay of a status event in the feeds.
WATCH_SECONDS = 1.0
# A slower check has failed: load balancers ask every few seconds.
CHECK_SECONDS_MAX = 2.0
# A Kafka that takes longer does not answer: progress is checked every second.
KAFKA_SECONDS_MAX = 2.0


class Readiness:
    """Runs the checks; calls `changed` with the new status when readiness changes."""

    def __init__(self, checks: Mapping[str, Check], changed: Callable[[Status], None]) -> None:
        self._checks = checks
        self._changed = changed
        self._latest = Status(False, {"start": "not checked yet"})
        self._stopping: str | None = None

    @property
    def latest(self) -> Status:
        """The newest status."""
        return self._latest

    def trouble(self) -> str | None:
        """The reasons of the newest status; None if ready, and while it stops: nothing is waited for then."""
        if self._stopping is not None:
            return None
        return "; ".join(self._latest.reasons.values()) or None

    def stop(self, reason: str) -> None:
        """Be not ready from now on, whatever the checks find."""
        self._stopping = reason
        self._become(self._latest.reasons)

    async def check(self) -> Status:
        """Run all checks concurrently, within CHECK_SECONDS_MAX."""
        found = await asyncio.gather(*(_bounded(check) for check in self._checks.values()))
        reasons = {name: reason for name, reason in zip(self._checks, found, strict=True) if reason is not None}
        self._become(reasons)
        return self._latest

    def _become(self, reasons: Mapping[str, str]) -> None:
        stopping = {} if self._stopping is None else {"stop": self._stopping}
        before, self._latest = self._latest, Status(not (reasons or stopping), {**reasons, **stopping})
        if before.ready != self._latest.ready:
            self._changed(self._latest)

    async def watch(self) -> None:
        """Check every WATCH_SECONDS until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(WATCH_SECONDS)

    async def healthz(self, request: web.Request) -> web.Response:
        """`GET /healthz`: 200 while the loop runs."""
        return problems.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """`GET /readyz`: 200, or 503 with reasons."""
        status = await self.check()
        return problems.json_response(status, 200 if status.ready else 503)


async def _bounded(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS_MAX:.0f} s"


async def check_kafka(producer: AIOKafkaProducer) -> str | None:
    """A broker answers."""
    try:
        await producer.client.fetch_all_metadata()
    except (KafkaError, OSError) as error:
        return f"Kafka does not answer: {describe_error(error)}"
    return None


async def check_redis(redis: Redis) -> str | None:
    """Redis answers and never evicts: an evicted counter is lost stock."""
    try:
        return await check_eviction_policy(redis)
    except (RedisError, OSError) as error:
        return f"Redis does not answer: {describe_error(error)}"


async def check_ledger(ledger: Ledger, reads: SettledReads) -> str | None:
    """The ledger is blessed, and its decisions are settled."""
    deadline = asyncio.get_running_loop().time() + 0.75 * CHECK_SECONDS_MAX
    try:
        await reads.settled(lambda: ledger.read_order(NO_ORDER), deadline)
    except TimeoutError:
        return "what was decided is not being settled: is a worker running?"
    except LedgerError as error:
        return f"the ledger decides nothing: {error}"
    except (RedisError, OSError) as error:
        return f"Redis does not answer: {describe_error(error)}"
    return None


async def check_stalls(stalls: StallMonitor) -> str | None:
    """No work has waited for long without progress (rule 48)."""
    return "; ".join(stalls.sentences) or None


async def check_feeds(source: ChannelStockConsumer) -> str | None:
    """The feeds hold everything published before the start."""
    return None if source.complete.is_set() else "the feeds are still being read from channel-stock"


class ApiProgressProbe:
    """The progress of the parts of one API process that can stall: the readers of the feeds' topics by partition, the
    subscription to settled batches, the commands that wait for the ledger, and the events that wait for Kafka."""

    def __init__(
        self,
        app_id: str,
        source: ChannelStockConsumer,
        tail: OrderTail,
        settlements: SettlementListener,
        batcher: CommandBatcher,
        event_producer: InputEventProducer,
    ) -> None:
        self._source = source
        self._tail = tail
        self._settlements = settlements
        self._batcher = batcher
        self._event_producer = event_producer
        self._app_id = app_id
        self._journal = JOURNAL.full_name(app_id)
        # By topic: its last known end.
        self._ends: dict[str, OffsetVector] = {}

    async def look(self) -> list[PartStatus]:
        """Ask Kafka for the ends of the feeds' topics, and return the status of each part; raises nothing."""
        feeds = await self._feed(self._source, CHANNEL_STOCK.full_name(self._app_id))
        if self._tail.source is not None:
            feeds += await self._feed(self._tail.source, RESERVATIONS.full_name(self._app_id))
        return [*feeds, *self._ledger()]

    async def _feed(self, source: TopicConsumer, topic: str) -> list[PartStatus]:
        kafka_error = None
        try:
            async with asyncio.timeout(KAFKA_SECONDS_MAX):
                self._ends[topic], read = await source.ends(), await source.read()
        except (KafkaError, ConsumerStoppedError, OSError) as error:
            kafka_error = f"Kafka does not say where it ends: {describe_error(error)}"
            read = source.position
        statuses = []
        for partition, (at, end) in enumerate(zip(read, self._ends.get(topic, read), strict=True)):
            waiting = max(0, end - at) or int(kafka_error is not None)
            reason = kafka_error or source.trouble or "the consumer gives nothing"
            position = (at, source.position[partition])
            part = f"feeding {topic}-{partition}"
            statuses.append(PartStatus(part, waiting, position, reason, topic, partition, at))
        return statuses

    def _ledger(self) -> Iterator[PartStatus]:
        settlements, batcher, event_producer = self._settlements, self._batcher, self._event_producer
        reason = "" if settlements.subscribed else f"the subscription is cut: {settlements.trouble}"
        yield PartStatus(
            "hearing what is settled", int(not settlements.subscribed), settlements.newest, reason, self._journal
        )
        yield PartStatus(
            "deciding requests", batcher.open, batcher.answered, batcher.trouble or "no answer comes", self._journal
        )
        reason = event_producer.trouble or "Kafka has not acknowledged them"
        yield PartStatus("taking events", event_producer.waiting, event_producer.written, reason, event_producer.topic)
