"""Faust's transport that hands over a partition's fetched records as one chunk, with its own commit rule.

In: what aiokafka fetched, per partition. Out: one Faust event a chunk, whose value is the `Chunk` and whose offset is
the chunk's last. Faust spends about 100 µs on each event; a chunk pays that once for all of its records.

The commit rule: per partition the chunks are kept in the order in which they were delivered, and those acked are
popped from the left. So the smallest chunk that is not acked bounds the commit, whatever was acked behind it. An ack
of a chunk that was delivered before the last seek (a rebalance) counts for nothing: its records come again.
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

# The scheme of the broker's URL that selects this transport.
SCHEME = "chunked"
# A chunk is the unit of redelivery: large enough that Faust's price for it does not show, small enough that what is
# done again after a crash takes milliseconds.
CHUNK_RECORDS_MAX = 1_000
# A partition that was left out of a fetch (its records lay unread) joins the next one: this is how long the broker
# may hold the one on its way. Faust's 1,500 ms would be the worst case of our latency.
FETCH_WAIT_MS_MAX = 100
# How long a poll waits before it looks again which partitions may be read.
POLL_SECONDS_MAX = 0.2
# Between looks whether the tables are there.
NOT_READY_SECONDS = 0.02


class Record(Protocol):
    """What is read of a record of Kafka. `timestamp` is ms since the epoch."""

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
    """Records of one partition, in its order; never empty."""

    topic: str
    partition: int
    records: tuple[Record, ...]


class ChunkSchema(Schema):
    """Passes a chunk on as it is; what its bytes mean is the handler's business."""

    def compile(self, app: Any, **_: Any) -> Any:
        """The decoder that Faust calls for each event."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


def split_into_chunks(
    fetched: Mapping[Any, Sequence[Record]], size_max: int
) -> Iterator[tuple[Any, tuple[Record, ...]]]:
    """Cut what was fetched into chunks of at most `size_max` records, going round the partitions."""
    start = 0
    left = {tp: records for tp, records in fetched.items() if records}
    while left:
        for tp, records in left.items():
            yield tp, tuple(records[start : start + size_max])
        start += size_max
        left = {tp: records for tp, records in left.items() if len(records) > start}


class DeliveredChunks:
    """The chunks delivered since the last seek, per partition, in order: the state of the commit rule."""

    def __init__(self) -> None:
        self._by_partition: dict[Any, deque[Any]] = defaultdict(deque)

    def add(self, tp: Any, message: Any) -> None:
        """Note a chunk's message (its `offset` is the chunk's last) before it is handed over."""
        self._by_partition[tp].append(message)

    def take_acked(self, tp: Any) -> int | None:
        """Forget the acked chunks at the head; the offset to commit behind them, None where the head is not acked."""
        waiting = self._by_partition[tp]
        offset: int | None = None
        while waiting and waiting[0].acked:
            offset = waiting.popleft().offset + 1
        return offset

    def oldest_unacked(self, tp: Any) -> int | None:
        """The offset of the first message that is not acked; None where there is none."""
        waiting = self._by_partition.get(tp, ())
        return next((message.offset for message in waiting if not message.acked), None)

    def partitions(self) -> list[Any]:
        """Those with chunks that are not committed."""
        return [tp for tp, waiting in self._by_partition.items() if waiting]

    def clear(self) -> None:
        """All will be delivered anew."""
        self._by_partition.clear()


class ChunkConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """Faust's consumer thread, which also tells the app's `membership` of each heartbeat that was answered."""

    async def on_start(self) -> None:
        """Start the consumer and listen to its heartbeats."""
        self._consumer = self._create_consumer(loop=self.thread_loop)
        self._consumer._fetch_max_wait_ms = FETCH_WAIT_MS_MAX
        self.time_started = time.monotonic()
        await self._consumer.start()
        self._watch_heartbeats(self._consumer._coordinator)

    async def on_thread_stop(self) -> None:
        """Stop the consumer. A static member would stay in the group until its session has run out: leave it."""
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    def _watch_heartbeats(self, coordinator: Any) -> None:
        membership = self.app.membership
        beat = coordinator._do_heartbeat

        async def beat_and_tell() -> bool:
            asked_at = time.monotonic()
            answered: bool = await beat()
            if answered:
                # The broker counts from when it got the request: the time of asking is the safe side.
                membership.confirm(asked_at)
            return answered

        coordinator._do_heartbeat = beat_and_tell


class _NeverRead(defaultdict[Any, None]):
    """Stands in for Faust's "offset read last", below which Faust drops what it gets. After a seek back that would
    drop what must come again: a chunk under way notes its offset only when it was handed over, after the seek."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Remember nothing."""


class ChunkConsumer(aiokafka.Consumer):
    """Faust's consumer, by chunks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered = DeliveredChunks()
        # A fetch and a seek exclude each other, and what was fetched before a seek is dropped after it: else records
        # on their way from the consumer's thread would count as delivered although earlier ones come again.
        self._fetch_or_seek = asyncio.Lock()
        self._seeks = 0
        self._fetched_after_seeks = 0
        super().__init__(*args, **kwargs)
        self._read_offset = _NeverRead()

    def _new_consumer_thread(self) -> ChunkConsumerThread:
        return ChunkConsumerThread(self, loop=self.loop, beacon=self.beacon)

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
            # Faust resumes the streams before it seeks: until it has, only changelogs are read.
            active_partitions = {tp for tp in active_partitions if self._is_changelog_tp(tp)}
            if not active_partitions:
                await asyncio.sleep(NOT_READY_SECONDS)
                return {}
        async with self._fetch_or_seek:
            self._fetched_after_seeks = self._seeks
            return await super()._getmany(active_partitions, timeout)

    async def _give_back(self) -> None:
        """What was fetched while the flow stopped is dropped, so the position must go back."""
        try:
            await self.perform_seek()
        except Exception as error:  # no assignment, or a rebalance under way, which ends with a seek of its own
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
        """Mark a chunk as done. True the first time."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
            self._n_acked += 1
            # The message waits here for its commit; its records need not.
            message.value = None
        notify(self._waiting_for_ack)
        return True

    def _new_offset(self, tp: Any) -> int | None:
        return self._delivered.take_acked(tp)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        return (tp for tp in self._delivered.partitions() if topics is None or tp in topics or tp.topic in topics)

    def oldest_unacked(self, tp: Any) -> int | None:
        """The last offset of the oldest chunk that was delivered and is not acked; None where there is none."""
        return self._delivered.oldest_unacked(tp)

    def fetch_position(self, tp: Any) -> int | None:
        """Where the next fetch of a partition begins; None where that is not known yet. The thread is not asked: what
        waits for Kafka there would hold up what reads."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        if subscription is None or subscription.assignment is None or tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(TopicPartition(tp.topic, tp.partition))
        return state.position if state.has_valid_position else None

    def lags(self) -> dict[tuple[str, int], int]:
        """Per assigned input partition (topic, partition) the records that are not committed yet, as far as known."""
        found = {}
        for tp in self.assignment():
            high, done = self.highwater(tp), self._committed_offset.get(tp)
            if high is not None and done is not None and not self._is_changelog_tp(tp):
                found[tp.topic, tp.partition] = max(0, high - done)
        return found

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Offsets between chunks are no gaps: nothing to remember."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Commit what is done, before Faust forgets it."""
        self.app.membership.end()
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Begin a new epoch of the membership."""
        self.app.membership.begin()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Back to what is committed, or to the beginning where nothing is; all delivered so far will come again."""
        async with self._fetch_or_seek:
            committed = await self.seek_to_committed()
            never = [tp for tp, offset in committed.items() if not offset and not self._is_changelog_tp(tp)]
            if never:
                # Else a first chunk that a rebalance dropped before anything was committed would stay dropped.
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
    """Make Faust know the scheme. Idempotent."""
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
