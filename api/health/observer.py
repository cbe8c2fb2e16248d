"""Observes the system while somebody asks for its health.

In: clients of Redis and Kafka. Out: a `SystemHealth`, as of at most two seconds ago, however many ask.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.api.handlers.webhooks import WebhookAnswer
from stocktide.api.health.judgement import HeardProcess, Observation, judge_parts, judge_processes
from stocktide.api.topic_calls import SharedCalls
from stocktide.streams.contract.documents import ProcessStatus, Status, SystemHealth
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.read_topic import read_topic
from stocktide.streams.topics import INTAKE, PROCESSES, TOPICS
from stocktide.tables.settlement.backlog import ShardBacklog, read_groups, read_shard, with_decisions
from stocktide.tables.settlement.stalls import PartStatus, StallDetector, describe_error

# A part that stands still is seen after 10 s; boards ask every few seconds.
FRESH_SECONDS = 2.0
# A server that takes longer does not answer.
ANSWER_SECONDS_MAX = 2.0
# Connections to Kafka are kept for so long after a call.
IDLE_SECONDS = 60.0
# Dead letters are counted less often: their topic is opened for it.
LETTERS_FRESH_SECONDS = 30.0
# A process that has said nothing for so long is not shown any more.
FORGET_MS = 600_000
_Read = TypeVar("_Read")
_ROW = msgspec.json.Decoder(ProcessStatus)


class KafkaClients(Struct, frozen=True):
    """What an observer opens: a started consumer without a group and topics, and a started admin client."""

    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient


class OwnParts(Struct, frozen=True):
    """What this process knows by itself. `webhooks` and `count_letters`, the open dead letters of a topic, raise
    KafkaError or OSError."""

    readiness: Callable[[], Status]
    status: Callable[[], ProcessStatus]
    webhooks: Callable[[], Awaitable[Sequence[WebhookAnswer]]]
    count_letters: Callable[[str, float], Awaitable[int]]
    late: Callable[[], int]


class SystemObserver:
    """Observes one installation. `open_clients` puts the clients' end on the stack. Nothing is open before a call."""

    def __init__(
        self,
        app_id: str,
        redis: Redis,
        open_clients: Callable[[AsyncExitStack], Awaitable[KafkaClients]],
        own: OwnParts,
    ) -> None:
        self._app_id = app_id
        self._redis = redis
        self._open_clients = open_clients
        self._own = own
        self._topics = {topic.full_name(app_id): topic for topic in TOPICS}
        self._partition = TopicPartition(PROCESSES.full_name(app_id), 0)
        self._shared: SharedCalls[SystemHealth] = SharedCalls(FRESH_SECONDS)
        self._detector = StallDetector()
        self._clients: KafkaClients | None = None
        self._stack = AsyncExitStack()
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        # By process: what it said, and when (ms).
        self._heard: dict[str, tuple[ProcessStatus, int]] = {}

    async def health(self) -> SystemHealth:
        """The health, which all share who ask within FRESH_SECONDS."""
        return await self._shared.get(None, self._observe)

    async def close(self) -> None:
        """Close the clients; a later call opens them again."""
        if self._idle is not None:
            self._idle.cancel()
        await self._close_clients()

    async def _observe(self) -> SystemHealth:
        if self._idle is not None:
            self._idle.cancel()
        intake = self._own.count_letters(INTAKE.full_name(self._app_id), LETTERS_FRESH_SECONDS)
        shard, groups, webhooks, letters = await asyncio.gather(
            self._read_shard(), self._read_kafka(), _or_none(self._own.webhooks()), _or_none(intake)
        )
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._begin_closing)
        statuses = [] if isinstance(groups, str) else groups
        if not isinstance(shard, str):
            statuses = [shard.settling, *with_decisions(statuses, shard)]
        seen = Observation(
            readiness=self._own.readiness(),
            shard=None if isinstance(shard, str) else shard,
            redis_trouble=shard if isinstance(shard, str) else "",
            groups=None if isinstance(groups, str) else groups,
            kafka_trouble=groups if isinstance(groups, str) else "",
            stalls=self._detector.look(statuses),
            processes=self._processes(),
            webhooks=webhooks,
            intake_letters=letters,
            late=self._own.late(),
            topics=self._topics,
        )
        return SystemHealth(seen.readiness.ready, rfc3339(now_ms()), judge_parts(seen), judge_processes(seen.processes))

    async def _close_clients(self) -> None:
        stack, self._stack, self._clients = self._stack, AsyncExitStack(), None
        with contextlib.suppress(KafkaError, OSError):
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await stack.aclose()

    def _begin_closing(self) -> None:
        self._closing = asyncio.create_task(self.close(), name="health is not asked for")

    async def _read_shard(self) -> ShardBacklog | str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await read_shard(self._redis, self._app_id)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            return f"Redis does not answer: {describe_error(error)}"

    async def _read_kafka(self) -> list[PartStatus] | str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                if self._clients is None:
                    self._clients = await self._open()
                await self._hear(self._clients.consumer)
                return await read_groups(self._clients.admin, self._clients.consumer, self._app_id)
        except (KafkaError, OSError) as error:
            await self._close_clients()
            return f"Kafka does not answer: {describe_error(error)}"

    async def _open(self) -> KafkaClients:
        clients = await self._open_clients(self._stack)
        clients.consumer.assign([self._partition])
        since = {self._partition: now_ms() - FORGET_MS}
        place = (await clients.consumer.offsets_for_times(since))[self._partition]
        if place is not None:
            clients.consumer.seek(self._partition, place.offset)
        else:
            await clients.consumer.seek_to_end(self._partition)
        return clients

    async def _hear(self, consumer: AIOKafkaConsumer) -> None:
        """Read what processes have said since the last time; between two readings nothing is fetched."""
        consumer.resume(self._partition)
        try:
            async for _, records in read_topic(consumer):
                for record in records:
                    self._take((record.key or b"").decode(errors="replace"), record.value, record.timestamp)
        finally:
            consumer.pause(self._partition)

    def _take(self, process: str, value: bytes | None, at: int) -> None:
        if value is None:
            self._heard.pop(process, None)
            return
        with contextlib.suppress(msgspec.MsgspecError):  # of a newer version
            self._heard[process] = (_ROW.decode(value), at)

    def _processes(self) -> list[HeardProcess]:
        now, own = now_ms(), self._own.status()
        self._heard = {name: each for name, each in self._heard.items() if now - each[1] < FORGET_MS}
        others = {name: each for name, each in self._heard.items() if name != own.process}
        return [
            HeardProcess(own, 0.0),
            *(HeardProcess(status, max(0, now - at) / 1000) for status, at in others.values()),
        ]


async def _or_none(read: Awaitable[_Read]) -> _Read | None:
    """What is read, None where Kafka does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await read
    except (KafkaError, OSError):
        return None
