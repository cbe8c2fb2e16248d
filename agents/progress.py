"""The pending work and positions of a worker's parts, from which stalls are detected (rule 48).

In: the parts of a worker, and one request per second to Kafka and Redis. Out: a `PartStatus` for settling, each
consumed partition, each partition that refuses rows, the timers and the tables; only for parts assigned to this worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.relay_assignment import RunningRelay
from stocktide.streams.app import App
from stocktide.streams.contract.times import rfc3339
from stocktide.streams.kafka.publish import Publisher
from stocktide.streams.topics import JOURNAL, STOCK, TOPICS, Topic
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.stalls import PartStatus, StepStatus, describe_error

# A server that takes longer counts as not answering.
ANSWER_SECONDS_MAX = 2.0


class LedgerProgress(Struct, frozen=True):
    """A shard's positions in Redis. `overdue`: the oldest deadline and the oldest dwell that have passed, each or
    None."""

    head: int = 0
    settled: int = 0
    overdue: tuple[tuple[str, float] | None, ...] = (None, None)


class RedisProbe:
    """Reads a shard's positions from Redis. `tick_ms`: the interval of the expiry step. `trouble`: the error if Redis
    does not answer, else None."""

    def __init__(self, redis: Redis, app_id: str, tick_ms: int, shard: int = 0) -> None:
        self._redis = redis
        self._prefix = key_prefix(app_id, shard)
        self._tick_ms = tick_ms
        self.trouble: str | None = None
        self.numbers = LedgerProgress()

    async def probe(self) -> None:
        """Read once; raises nothing."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                self.numbers = await self._read()
            self.trouble = None
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            self.trouble = f"Redis does not answer: {describe_error(error)}"

    async def _read(self) -> LedgerProgress:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hget(self._prefix + "head", "batch")
        pipeline.hget(self._prefix + "settled", "batch")
        pipeline.zrange(self._prefix + "deadlines", 0, 0, withscores=True)
        pipeline.zrange(self._prefix + "dwells", 0, 0, withscores=True)
        now, head, settled, *oldest = await pipeline.execute()
        # Deadlines since the last tick are handled by the next one.
        before = now[0] * 1000 + now[1] // 1000 - self._tick_ms
        return LedgerProgress(int(head or 0), int(settled or 0), tuple(_overdue(found, before) for found in oldest))


def _overdue(found: Sequence[tuple[bytes, float]], before_ms: int) -> tuple[str, float] | None:
    if not found or found[0][1] > before_ms:
        return None
    return found[0][0].decode(errors="backslashreplace"), found[0][1]


class KafkaProbe:
    """Reads the end offsets of partitions. `trouble`: the error if Kafka does not answer, else None."""

    def __init__(self, make_consumer: Callable[[], AIOKafkaConsumer]) -> None:
        self._make_consumer = make_consumer
        self._consumer: AIOKafkaConsumer | None = None
        self.trouble: str | None = None
        self.ends: Mapping[Any, int] = {}

    async def probe(self, partitions: Sequence[Any]) -> None:
        """Read once; raises nothing."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                self.ends = await self._read([TopicPartition(*partition) for partition in partitions])
            self.trouble = None
        except (KafkaError, OSError) as error:
            self.trouble = f"Kafka does not answer: {describe_error(error)}"

    async def _read(self, partitions: list[TopicPartition]) -> Mapping[Any, int]:
        if self._consumer is None:
            consumer = self._make_consumer()
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        found: Mapping[Any, int] = await self._consumer.end_offsets(partitions) if partitions else {}
        return found

    async def stop(self) -> None:
        """Close the consumer."""
        if self._consumer is not None:
            await self._consumer.stop()


class ConsumingApp(Struct):
    """An app of the worker with its parts: the workers by topic, and the agent of `stock` where it has one."""

    app: App
    workers: Mapping[Topic, PartitionWorkers]
    publisher: Publisher
    stock: StockAgent | None = None


class Deciding(Struct):
    """The parts of the role that decides. `relay` returns the relay that runs here, or None; `timers`: the step
    statuses by timer, `expiry` among them; `settled_steps`: of the chunk of each partition."""

    relay: Callable[[], RunningRelay | None]
    submitter: Submitter
    timers: Mapping[str, StepStatus]
    redis: RedisProbe
    settled_steps: Mapping[Any, object]


class WorkerProgress:
    """The part statuses of one worker. `deciding` is None where it only publishes."""

    def __init__(
        self, app_id: str, apps: Sequence[ConsumingApp], kafka: KafkaProbe, deciding: Deciding | None = None
    ) -> None:
        self._apps = apps
        self._kafka = kafka
        self._deciding = deciding
        self._topics = {topic.full_name(app_id): topic for topic in TOPICS}
        self._journal = JOURNAL.full_name(app_id)

    async def statuses(self) -> list[PartStatus]:
        """Probe both servers and return the status of each part; raises nothing."""
        consumed = [(app, self._consumed(app)) for app in self._apps]
        probes = [self._kafka.probe([tp for _, partitions in consumed for tp in partitions])]
        if self._deciding is not None:
            probes.append(self._deciding.redis.probe())
        await asyncio.gather(*probes)
        return [
            *self._servers(),
            *(status for app in self._apps for status in self._restoring(app)),
            *self._settling(),
            *(status for app, partitions in consumed for status in self._consuming(app, partitions)),
            *(status for app in self._apps for status in self._refusals(app)),
            *self._timer_statuses(),
        ]

    def _consumed(self, consuming: ConsumingApp) -> list[Any]:
        """The partitions consumed now; none during a rebalance or while tables are restored."""
        app = consuming.app
        if not app.membership.held or not app.tables.actives_ready:
            return []
        ours = {*consuming.workers, *([STOCK] if consuming.stock is not None else [])}
        return [tp for tp in app.consumer.assignment() if self._topics.get(tp.topic) in ours]

    def _relay(self) -> RunningRelay | None:
        return None if self._deciding is None else self._deciding.relay()

    def _servers(self) -> Iterator[PartStatus]:
        relay = self._relay()
        settled = None if relay is None else relay.next_offset
        troubles = {"kafka": self._kafka.trouble}
        if self._deciding is not None:
            troubles["redis"] = self._deciding.redis.trouble
        for name, trouble in troubles.items():
            yield PartStatus(name, int(trouble is not None), None, trouble or "", self._journal, 0, settled)

    def _restoring(self, consuming: ConsumingApp) -> Iterator[PartStatus]:
        tables = consuming.app.tables
        if consuming.app.membership.held and not tables.actives_ready:
            offsets = dict(tables.recovery.active_offsets)
            ends = tables.recovery.active_highwaters
            behind = [tp for tp, offset in sorted(offsets.items()) if offset < ends.get(tp, 0)]
            topic, partition, offset = (*behind[0], offsets[behind[0]]) if behind else (self._journal, 0, None)
            reason = self._kafka.trouble or "the tables are being read back"
            yield PartStatus("reading the tables back", 1, offsets, reason, topic, partition, offset)

    def _settling(self) -> Iterator[PartStatus]:
        relay, deciding = self._relay(), self._deciding
        if relay is None or deciding is None:
            return
        numbers, recovery = deciding.redis.numbers, relay.recovery
        waiting = max(0, numbers.head - numbers.settled)
        if deciding.redis.trouble or not relay.blessed:
            waiting = max(1, waiting)
        servers = deciding.redis.trouble or self._kafka.trouble
        reason = relay.error or servers or "the journal does not give back what was sent"
        position = (numbers.settled, relay.reading, recovery and (recovery.phase, recovery.done))
        yield PartStatus("settling", waiting, position, reason, self._journal, 0, relay.next_offset)
        if relay.blessed:
            for name, oldest in zip(("expiry", "dwells"), numbers.overdue, strict=True):
                due = f"{oldest[0]!r} was due at {rfc3339(int(oldest[1]))}" if oldest else ""
                trouble = deciding.timers["expiry"].trouble
                yield PartStatus(name, int(oldest is not None), oldest, f"{due}: {trouble}" if trouble else due)

    def _recovery_position(self) -> object:
        """A position that moves while Redis is recovered: waiting for decisions is no stall then."""
        relay = self._relay()
        if self._deciding is None or (relay is not None and relay.blessed):
            return None
        recovery = None if relay is None or relay.recovery is None else (relay.recovery.phase, relay.recovery.done)
        return self._deciding.redis.numbers.settled, recovery, relay and relay.reading

    def _consuming(self, consuming: ConsumingApp, partitions: Sequence[Any]) -> Iterator[PartStatus]:
        consumer, recovering, why = consuming.app.consumer, self._recovery_position(), self._wait_reason(consuming)
        for tp in partitions:
            part, end = f"consuming {tp.topic}-{tp.partition}", self._kafka.ends.get(tp)
            read = consumer.fetch_position(tp)
            if read is None:
                yield PartStatus(part, 1, recovering, "Kafka does not say from where on", tp.topic, tp.partition)
                continue
            unread = max(0, end - read) if end is not None else 0
            topic = self._topics[tp.topic]
            if topic is STOCK and consuming.stock is not None:
                # Rows of `stock` may be pending until the end of an interval: only due updates count.
                due, written, trouble = consuming.stock.status(tp.partition)
                moved = ("due", written) if due else ("read", read)
                yield PartStatus(part, unread + due, moved, trouble or why, tp.topic, tp.partition, read)
                continue
            workers = consuming.workers[topic]
            chunk, oldest = workers.in_progress.get(tp.partition), consumer.oldest_unacked(tp)
            offset = chunk.offset if chunk else read if oldest is None else oldest
            trouble = chunk.error if chunk else ""
            # Fetching behind an unfinished chunk is no progress.
            steps = self._deciding and self._deciding.settled_steps.get(tp)
            done = workers.done.get(tp.partition)
            position = (read if oldest is None else None, oldest, offset, done, steps, recovering)
            yield PartStatus(
                part, unread + (oldest is not None), position, trouble or why, tp.topic, tp.partition, offset
            )

    def _wait_reason(self, consuming: ConsumingApp) -> str:
        """The likely reason why a handler that has raised no error does not return."""
        relay, deciding = self._relay(), self._deciding
        failing, alone = consuming.publisher.failing, not consuming.app.membership.is_fresh()
        found = (
            None if relay is None or relay.blessed else relay.error or "the relay takes over",
            deciding and deciding.redis.trouble,
            self._kafka.trouble,
            *(f"{topic}-{partition} takes no rows: {why}" for (topic, partition), why in failing.items()),
            "Kafka has answered no heartbeat of this worker, so that it must not write" if alone else None,
            deciding and deciding.submitter.trouble,
        )
        return next((why for why in found if why), "its handler has not ended")

    def _refusals(self, consuming: ConsumingApp) -> Iterator[PartStatus]:
        for (topic, partition), why in consuming.publisher.failing.items():
            yield PartStatus(f"writing {topic}-{partition}", 1, None, why, topic, partition)

    def _timer_statuses(self) -> Iterator[PartStatus]:
        recovering = self._recovery_position()
        for name, steps in self._deciding.timers.items() if self._deciding is not None else ():
            yield PartStatus(
                f"timer {name}", int(steps.trouble is not None), (steps.done, recovering), steps.trouble or ""
            )
