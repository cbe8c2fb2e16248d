"""A Faust transport that delivers a partition's fetched records as chunks, with its own commit rule.

In: aiokafka's fetches, per partition. Out: one Faust event per chunk; its value is the `Chunk`, its offset the chunk's
last. Faust spends about 100 µs on each event; a chunk pays that once for all of its records.

The commit rule: per partition the chunks are kept in the order of delivery, and acked ones are popped from the left. So
the oldest unacked chunk bounds the commit. An ack of a chunk that was delivered before the last seek (a rebalance) has
no effect: its records come again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import TopicPartition
from faust.serializers.schemas import Schema
from faust.transport.drivers import TRANSPORTS, aiokafka
from faust.types import TP, ConsumerMessage
from faust.types.tuples import ack_lock
from mode.utils.futures import notify

from stocktide.streams.kafka.long_polls import limit_long_polls
from stocktide.streams.kafka.membership import watch_heartbeats

# The scheme of the broker's URL that selects this transport.
SCHEME = "chunked"
# A chunk is the unit of redelivery: large enough to amortise Faust's cost per event, small enough that a redelivery
# takes milliseconds.
CHUNK_RECORDS_MAX = 1_000
# Limit of a poll, after which the set of readable partitions is evaluated again.
POLL_SECONDS_MAX = 0.2
# Pause between checks of whether the tables are restored.
NOT_READY_SECONDS = 0.02


class Record(Protocol):
    """A record of Kafka. `timestamp` is ms since the epoch."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition, in order; never empty."""

    topic: str
    partition: int
    records: tuple[Record, ...]


class ChunkSchema(Schema):
    """A schema that passes chunks on undecoded."""

    def compile(self, app: Any, **_: Any) -> Any:
        """The decoder that Faust calls for each event."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


def split_into_chunks(
    fetched: Mapping[Any, Sequence[Record]], size_max: int
) -> Iterator[tuple[Any, tuple[Record, ...]]]:
    """Split a fetch into chunks of at most `size_max` records, round-robin over the partitions."""
    start = 0
    left = {tp: records for tp, records in fetched.items() if records}
    while left:
        for tp, records in left.items():
            yield tp, tuple(records[start : start + size_max])
        start += size_max
        left = {tp: records for tp, records in left.items() if len(records) > start}


class DeliveredChunks:
    """The state of the commit rule: the chunks delivered since the last seek, per partition, in order."""

    def __init__(self) -> None:
        self._by_partition: dict[Any, deque[Any]] = defaultdict(deque)

    def add(self, tp: Any, message: Any) -> None:
        """Add a chunk's message (its `offset` is the chunk's last) before its delivery."""
        self._by_partition[tp].append(message)

    def take_acked(self, tp: Any) -> int | None:
        """Remove the acked chunks at the head; the offset to commit after them, None if the head is not acked."""
        waiting = self._by_partition[tp]
        offset: int | None = None
        while waiting and waiting[0].acked:
            offset = waiting.popleft().offset + 1
        return offset

    def oldest_unacked(self, tp: Any) -> int | None:
        """The offset of the first unacked message; None if all are acked."""
        waiting = self._by_partition.get(tp, ())
        return next((message.offset for message in waiting if not message.acked), None)

    def partitions(self) -> list[Any]:
        """The partitions with uncommitted chunks."""
        return [tp for tp, waiting in self._by_partition.items() if waiting]

    def clear(self) -> None:
        """Forget all chunks: they will be delivered again."""
        self._by_partition.clear()


class ChunkConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """Faust's consumer thread, which also reports each answered heartbeat to the app's `membership`."""

    async def on_start(self) -> None:
        """Start the consumer, observe its heartbeats and limit its fetches."""
        self._consumer = self._create_consumer(loop=self.thread_loop)
        self.time_started = time.monotonic()
        await self._consumer.start()
        watch_heartbeats(self._consumer._coordinator, self.app.membership)
        limit_long_polls(self._consumer._fetcher)

    async def on_thread_stop(self) -> None:
        """Stop the consumer and leave the group: a static member would stay in it until its session timed out."""
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()


class _NoReadOffsets(defaultdict[Any, None]):
    """Disables Faust's map of offsets read, below which Faust drops records. A chunk in flight would write its offset
    after a seek back, and Faust would drop the redelivery."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store nothing."""


class ChunkConsumer(aiokafka.Consumer):
    """Faust's consumer, delivering chunks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered = DeliveredChunks()
        # A fetch and a seek exclude each other, and records fetched before a seek are dropped after it: otherwise they
        # would count as delivered although earlier ones come again.
        self._fetch_or_seek = asyncio.Lock()
        self._seeks = 0
        self._fetched_after_seeks = 0
        super().__init__(*args, **kwargs)
        self._read_offset = _NoReadOffsets()

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        # The kind of loop that the process runs on: uvloop, where it is installed.
        thread_loop = type(self.loop)()
        return ChunkConsumerThread(self, loop=self.loop, thread_loop=thread_loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        """Fetch, and yield (partition, message) for each chunk."""
        fetched, readable = await self._wait_next_records(min(timeout, POLL_SECONDS_MAX))
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            await self._give_back()
            return
        for tp, records in split_into_chunks(fetched, CHUNK_RECORDS_MAX):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return  # a rebalance: it ends with a seek
            if self._seeks != self._fetched_after_seeks:
                return
            if readable is None or tp in readable or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                message = self._message_of(tp, records)
                if self.app.topics.acks_enabled_for(tp.topic):
                    self._delivered.add(tp, message)
                yield tp, message

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        if not self.app.tables.actives_ready and active_partitions is not None:
            # Faust resumes the streams before it seeks: until then only changelogs are read.
            active_partitions = {tp for tp in active_partitions if self._is_changelog_tp(tp)}
            if not active_partitions:
                await asyncio.sleep(NOT_READY_SECONDS)
                return {}
        async with self._fetch_or_seek:
            self._fetched_after_seeks = self._seeks
            return await super()._getmany(active_partitions, timeout)

    async def _give_back(self) -> None:
        """Seek back, because records that were fetched while the flow stopped are dropped."""
        try:
            await self.perform_seek()
        except Exception as error:  # no assignment, or a rebalance, which ends with a seek of its own
            self.log.info("not sought back while the flow was stopped: %r", error)

    def _message_of(self, tp: Any, records: tuple[Record, ...]) -> Any:
        last = records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            None,
            None,
            Chunk(tp.topic, tp.partition, records),
            None,
            0,
            0,
            TP(tp.topic, tp.partition),
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Any) -> bool:
        """Mark a chunk as processed. True the first time."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            self._n_acked += 1
            # The message waits for its commit; its records are no longer needed.
            message.value = None
        notify(self._waiting_for_ack)
        return True

    def _new_offset(self, tp: Any) -> int | None:
        return self._delivered.take_acked(tp)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        return (tp for tp in self._delivered.partitions() if topics is None or tp in topics or tp.topic in topics)

    def oldest_unacked(self, tp: Any) -> int | None:
        """The last offset of the oldest unacked chunk; None if all are acked."""
        return self._delivered.oldest_unacked(tp)

    def fetch_position(self, tp: Any) -> int | None:
        """The offset of the next fetch of a partition; None if it is not known yet. Read without the consumer's thread,
        which may be waiting for Kafka."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        if subscription is None or subscription.assignment is None or tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(TopicPartition(tp.topic, tp.partition))
        return state.position if state.has_valid_position else None

    def lags(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → uncommitted records, of the assigned input partitions whose lag is known."""
        found = {}
        for tp in self.assignment():
            high, done = self.highwater(tp), self._committed_offset.get(tp)
            if high is not None and done is not None and not self._is_changelog_tp(tp):
                found[tp.topic, tp.partition] = max(0, high - done)
        return found

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Do nothing: offsets between chunks are no gaps."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Commit the acked chunks before Faust forgets them."""
        self.app.membership.end()
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Begin an epoch of the membership."""
        self.app.membership.begin()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, or to the beginning; uncommitted records will come again."""
        async with self._fetch_or_seek:
            committed = await self.seek_to_committed()
            never = [tp for tp, offset in committed.items() if not offset and not self._is_changelog_tp(tp)]
            if never:
                # Otherwise a first chunk that a rebalance dropped before the first commit would be lost.
                await self._thread.seek_to_beginning(*never)
            self._seeks += 1
            self._delivered.clear()
        for tp, offset in committed.items():
            if offset:
                self._committed_offset[TP(tp.topic, tp.partition)] = offset


class Transport(aiokafka.Transport):
    """The driver behind `chunked://host:port`."""

    Consumer = ChunkConsumer
    driver_version = f"chunked aiokafka={aiokafka.aiokafka.__version__}"


def register() -> None:
    """Register the scheme with Faust. Idempotent."""
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
