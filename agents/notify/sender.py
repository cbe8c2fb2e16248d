"""Follows `alerts` for one receiver, with a consumer group of its own.

In: rows of `alerts`. Out: what `delivery` sends; committed offsets, with what is done beyond them. A group of alerts is
one message, so that one worker has all partitions; the others stand by. What was read and not sent when a worker ends
is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.notify.assignor import OneMemberAssignor
from stocktide.agents.notify.config import Receiver, Route
from stocktide.agents.notify.delivery import Delivery
from stocktide.agents.notify.groups import Groups, Place
from stocktide.agents.notify.progress import Progress, decode_done
from stocktide.agents.notify.routing import decode_alert, taken_by
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.shutdown import end, run_to_end

logger = logging.getLogger(__name__)

# Nobody waits for an alert as for an answer: a killed worker's receivers move after this.
SESSION_MS, HEARTBEAT_MS = 10_000, 3_000
# Rows per poll: some ms of the loop.
ROWS_MAX = 500
# Of a partition and receiver, read ahead: with aiokafka's MiB, 20 receivers that begin behind held 240 MB of 12
# partitions. A larger row is fetched alone.
FETCH_BYTES_MAX = 64 * 1024
# An empty poll, and how often is committed.
POLL_MS = 1_000
COMMIT_SECONDS = 1.0
RETRY_SECONDS = 1.0
STOP_SECONDS_MAX = 5.0


class SenderParts(msgspec.Struct, frozen=True):
    """What the senders of a worker share. `topic` is the full name of `alerts`; a new receiver gets alerts since
    `since_ms`; `receivers`: how many there are."""

    kafka: str
    security: Mapping[str, Any]
    topic: str
    routes: tuple[Route, ...]
    session: aiohttp.ClientSession
    metrics: WorkerMetrics
    since_ms: int
    receivers: int


class ReceiverSender(ConsumerRebalanceListener):
    """One receiver. `group` is its consumer group."""

    def __init__(self, receiver: Receiver, group: str, parts: SenderParts) -> None:
        self._receiver = receiver
        self._group = group
        self._parts = parts
        self._progress: dict[TopicPartition, Progress] = {}
        self._groups = Groups(parts.routes, parts.receivers)
        self._delivery: Delivery | None = None
        self._sending: asyncio.Task[None] | None = None
        # Partitions that were assigned, and whose commits are to be read.
        self._assigned: list[TopicPartition] = []
        self._next_commit = 0.0
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Join the group and send, until cancelled; errors of Kafka are retried."""
        while True:
            try:
                await self._run_once()
            except (KafkaError, OSError) as error:
                logger.warning("alerts for %s: %r; trying again", self._receiver.name, error)
            except Exception:
                logger.exception("sending alerts to %s failed; beginning again", self._receiver.name)
            await asyncio.sleep(RETRY_SECONDS)

    async def _run_once(self) -> None:
        parts = self._parts
        consumer = self._consumer = AIOKafkaConsumer(
            **{"bootstrap_servers": parts.kafka, **parts.security},
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            partition_assignment_strategy=(OneMemberAssignor,),
        )
        try:
            await consumer.start()
            consumer.subscribe([parts.topic], listener=self)
            while True:
                if self._assigned:
                    await self._begin(consumer)
                if self._sending is not None and self._sending.done():
                    self._sending.result()  # raises what has ended it
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
                for part, records in fetched.items():
                    self._take(part, records)
                await self._commit(consumer)
                await asyncio.sleep(0)
        finally:
            await run_to_end(self._leave(consumer))

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Give up the call in flight, and commit."""
        if self._consumer is not None:
            await self._end(self._consumer)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Read nothing before it is known what a predecessor has done."""
        self._assigned = list(assigned)
        if self._consumer is not None:
            self._consumer.pause(*self._assigned)

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Go on where the group has got to. Raises KafkaError."""
        parts, assigned = self._parts, self._assigned
        async with admin_client(parts.kafka, **parts.security) as admin:
            found = await admin.list_consumer_group_offsets(self._group)
        ends = await consumer.end_offsets(assigned)
        begins = await consumer.beginning_offsets(assigned)
        # A commit beyond the end is one of a topic that was made anew since.
        new = [part for part in assigned if part not in found or not 0 <= found[part].offset <= ends[part]]
        times = await consumer.offsets_for_times(dict.fromkeys(new, parts.since_ms)) if new else {}
        if self._assigned is not assigned:
            return  # another assignment has come meanwhile
        self._groups, self._progress = Groups(parts.routes, parts.receivers), {}
        for part in assigned:
            if part in new:
                at = times.get(part)
                self._progress[part] = Progress(ends[part] if at is None else at.offset)
            else:
                offset, metadata = found[part].offset, found[part].metadata or ""
                done = decode_done(offset, metadata)
                self._progress[part] = Progress(max(offset, begins[part]), done)
            consumer.seek(part, self._progress[part].next)
        self._assigned = []
        self._delivery = Delivery(self._receiver, self._groups, parts.session, self._finish, parts.metrics)
        self._sending = asyncio.create_task(self._delivery.run(), name=f"alerts for {self._receiver.name}")
        consumer.resume(*assigned)

    def _take(self, part: TopicPartition, records: Iterable[Any]) -> None:
        progress = self._progress.get(part)
        if progress is None or self._delivery is None:
            return  # of an assignment that is over
        for record in records:
            progress.read(record.offset, 0)
            if record.value is None or progress.is_done(record.offset):
                continue
            try:
                alert = decode_alert(record.value)
            except msgspec.MsgspecError as error:
                logger.error("the alert of %s-%d at %d cannot be read: %s", *part, record.offset, error)
                continue
            routes = self._parts.routes
            own = [at for at in taken_by(routes, alert) if routes[at].receiver == self._receiver.name]
            place, now = (part.partition, record.offset), now_ms()
            kept = sum([self._groups.add(route, alert, place, now) for route in own])
            progress.read(record.offset, kept)
        self._delivery.wake()

    def _finish(self, places: Iterable[Place]) -> None:
        for partition, offset in places:
            self._progress[TopicPartition(self._parts.topic, partition)].finish(offset)

    async def _commit(self, consumer: AIOKafkaConsumer, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._next_commit:
            return
        self._next_commit = time.monotonic() + COMMIT_SECONDS
        found = {part: at for part, each in self._progress.items() if (at := each.to_commit()) is not None}
        if not found:
            return
        try:
            await consumer.commit({part: OffsetAndMetadata(*at) for part, at in found.items()})
        except KafkaError as error:
            logger.warning("what %s has got is not committed yet: %r", self._receiver.name, error)
        else:
            for part, at in found.items():
                self._progress[part].committed(at)

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        """Commit and leave the group: a successor repeats nothing, and does not wait for the end of the session."""
        await self._end(consumer)
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(consumer.stop(), STOP_SECONDS_MAX)

    async def _end(self, consumer: AIOKafkaConsumer) -> None:
        if self._sending is not None:
            sending, self._sending, self._delivery = self._sending, None, None
            await end(sending)
            # Another worker has the group, and this gauge, now.
            self._parts.metrics.pending_alerts.remove(self._receiver.name)
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._commit(consumer, at_once=True), STOP_SECONDS_MAX)
        self._progress, self._assigned = {}, []
