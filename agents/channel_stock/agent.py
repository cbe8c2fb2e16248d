"""The agent of the topic `stock`: SKU rows → the topic `channel-stock`, which backs the table `channel_stock`.

In: chunks of `stock`. Out: on each tick, all channel updates that `agents.channel_stock.conflation` has made due, each
in the partition of its SKU. One writer takes them for all partitions, so that they share a request to Kafka. A chunk is
acked after the updates it conflated to are written.

An epoch begins for this agent when its table is restored. Then all of `stock` is also compared with the published rows,
and differences are published. This corrects rows that a former owner wrote late.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from stocktide.agents.channel_stock.alerts import ModeAlerts
from stocktide.agents.channel_stock.conflation import Conflation, DueUpdate, PendingAck, decode_stock_row
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_tick import IntervalStretch, PublicationTick
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher
from stocktide.streams.kafka.transport import Chunk, Record
from stocktide.streams.shutdown import end
from stocktide.streams.topics import CHANNEL_STOCK
from stocktide.tables.changelog_table import PublishedTable
from stocktide.tables.settlement.stalls import describe_error

logger = logging.getLogger(__name__)

# Updates of a partition in one write: what a comparison may find at once does not delay a change of mode by seconds.
UPDATES_MAX = 2_000
# Work done before the event loop runs other tasks: about a millisecond each.
ROWS_PER_TURN = 50
UPDATES_PER_TURN = 250
# After a write failed with an unexpected error.
RETRY_SECONDS = 1.0


class UpdateTraces(Protocol):
    """Called with the rows of one partition, and around the writes of its updates (`agents.traced`)."""

    def folding(self, records: Sequence[Record]) -> None: ...
    def publishing(self, updates: Sequence[DueUpdate]) -> contextlib.AbstractContextManager[object]: ...


class ChannelPublisher:
    """Folds the rows of one partition and writes its updates, during one epoch. `changed` is set where something may
    have become due."""

    def __init__(
        self,
        partition: int,
        epoch: int,
        table: PublishedTable,
        publisher: Publisher,
        topic: str,
        alerts: ModeAlerts,
        conflation: Conflation,
        tick: PublicationTick,
        changed: asyncio.Event,
        traces: UpdateTraces | None = None,
    ) -> None:
        self._partition = partition
        self.epoch = epoch
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self.alerts = alerts
        self._conflation = conflation
        self._tick = tick
        self._changed = changed
        self._traces = traces
        # Whether a write is in progress, the number of updates written, and the error of the newest write or "".
        self.writing = False
        self.written = 0
        self.error = ""

    @property
    def due(self) -> int:
        """1 if an update is due and not written yet, else 0."""
        due = self._conflation.next_due()
        return int(self.writing or (due is not None and due <= time.monotonic()))

    def next_due(self) -> float | None:
        """When the next write can begin, by the monotonic clock; None if nothing is pending, or one is in progress."""
        return None if self.writing else self._conflation.next_due()

    async def fold(self, records: Sequence[Record], pending_ack: PendingAck | None) -> None:
        """Fold rows; `pending_ack` is released after their updates are written."""
        if self._traces is not None:
            self._traces.folding(records)
        values = [record.value for record in records if record.value is not None]
        for start in range(0, len(values), ROWS_PER_TURN):
            with self._tick.work.running():
                for value in values[start : start + ROWS_PER_TURN]:
                    self._fold_row(value, pending_ack)
            self._changed.set()
            await asyncio.sleep(0)
        if pending_ack is not None:
            pending_ack.release()

    def _fold_row(self, value: bytes, pending_ack: PendingAck | None) -> None:
        try:
            row = decode_stock_row(value)
        except msgspec.MsgspecError as error:
            logger.error("a row of stock in partition %d cannot be decoded: %s", self._partition, error)
        else:
            self._conflation.fold(row, pending_ack)

    async def take_due(self) -> list[DueUpdate]:
        """The updates of the next write; while there are any, `writing` is true until `write` has ended."""
        updates: list[DueUpdate] = []
        self.writing = True
        while len(updates) < UPDATES_MAX:
            with self._tick.work.running():
                some = self._conflation.take_due(UPDATES_PER_TURN)
            updates += some
            if len(some) < UPDATES_PER_TURN:
                break
            await asyncio.sleep(0)
        self.writing = bool(updates)
        return updates

    async def write(self, updates: list[DueUpdate]) -> None:
        """Publish updates, their alerts first, and store them in the table, unless the epoch ends; then release their
        acks."""
        rows: dict[bytes, bytes | None] = {update.key: update.value for update in updates}
        with contextlib.nullcontext() if self._traces is None else self._traces.publishing(updates):
            await self.alerts.write([update.alert for update in updates if update.alert is not None])
            while True:
                try:
                    offsets = await self._publisher.publish(
                        self._topic, rows.items(), self.epoch, to_partition=lambda _: self._partition
                    )
                    with self._tick.work.running():
                        self._table.write(self._partition, rows, offsets[self._partition])
                except MembershipLost:
                    return
                except Exception as error:
                    self.error = describe_error(error)
                    logger.exception("channel-stock-%d: %d updates failed, trying again", self._partition, len(rows))
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    break
        self.writing, self.error, self.written = False, "", self.written + len(updates)
        for update in updates:
            if update.pending_ack is not None:
                update.pending_ack.release()
        self._changed.set()


# Folds all rows of the given partitions; see agents.channel_stock.compare.
CompareRows = Callable[[dict[int, ChannelPublisher]], Coroutine[Any, Any, None]]


class StockAgent:
    """All partitions of `stock` assigned to this worker. `topic` and `alerts` are the full names of
    `channel-stock` and `alerts`. `make_traces` is called for each partition."""

    def __init__(
        self,
        table: PublishedTable,
        publisher: Publisher,
        topic: str,
        alerts: str,
        interval_ms: int,
        metrics: WorkerMetrics,
        tick: PublicationTick,
        make_traces: Callable[[], UpdateTraces | None] = lambda: None,
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self._alerts = alerts
        self._interval_ms = interval_ms
        self._metrics = metrics
        self._tick = tick
        self._make_traces = make_traces
        self._stretch = IntervalStretch(time.monotonic, tick.work.seconds)
        self._channel_publishers: dict[int, ChannelPublisher] = {}
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()
        self._comparison: asyncio.Task[None] | None = None

    async def follow(self, stream: Any) -> None:
        """The body of the Faust agent: fold each chunk; it is acked after its updates are written."""
        async for event in stream.noack().events():
            await self.process_chunk(event.value, event)

    async def process_chunk(self, chunk: Chunk, event: Any) -> None:
        """Fold one chunk; `event.ack()` is called after its updates are written."""
        channel_publisher = self._channel_publishers.get(chunk.partition)
        if channel_publisher is None or not self._publisher.holds(channel_publisher.epoch):
            return  # from before a rebalance: the table may be gone or not restored yet, and the chunk comes again
        # Pending updates need not keep the chunk in memory.
        event.value = event.message.value = None
        await channel_publisher.fold(chunk.records, PendingAck(event.ack))

    def status(self, partition: int) -> tuple[int, int, str]:
        """Of a partition: 1 if updates are due, the number written, and the error of the newest write or ""."""
        channel_publisher = self._channel_publishers.get(partition)
        if channel_publisher is None:
            return 0, 0, ""
        ended = self._writer is not None and self._writer.done() and not self._writer.cancelled()
        error = describe_error(self._writer.exception()) if self._writer and ended else channel_publisher.error
        return channel_publisher.due, channel_publisher.written, error

    async def _write_on_ticks(self) -> None:
        """Write what is due in all partitions, once per tick. A partition whose write takes longer is left out."""
        while True:
            await self._wait_until_due()
            await self._tick.wait()
            taken = [(publisher, await publisher.take_due()) for publisher in self._ready()]
            for publisher, updates in taken:
                if updates:
                    write = asyncio.create_task(publisher.write(updates))
                    self._writes.add(write)
                    write.add_done_callback(self._writes.discard)
                    self._metrics.rows.labels(CHANNEL_STOCK.name).inc(len(updates))

    def _ready(self) -> Iterator[ChannelPublisher]:
        """The publishers whose epoch holds and that are not writing."""
        for publisher in list(self._channel_publishers.values()):
            if not publisher.writing and self._publisher.holds(publisher.epoch):
                yield publisher

    async def _wait_until_due(self) -> None:
        while True:
            due = min((due for publisher in self._ready() if (due := publisher.next_due()) is not None), default=None)
            wait = None if due is None else due - time.monotonic()
            if wait is not None and wait <= 0:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def on_restored(self, partitions: Iterable[int], compare: CompareRows) -> None:
        """Begin an epoch with all partitions assigned: their table is restored, no chunk was delivered yet."""
        for task in self._tasks():
            task.cancel()
        epoch = self._publisher.epoch
        self._channel_publishers = {partition: self._make_publisher(partition, epoch) for partition in partitions}
        self._writer = asyncio.create_task(self._write_on_ticks(), name="channel-stock")
        if self._channel_publishers:
            self._comparison = asyncio.create_task(compare(self._channel_publishers), name="compare stock")

    def _make_publisher(self, partition: int, epoch: int) -> ChannelPublisher:
        conflation = Conflation(
            lambda key: self._table.read(partition, key), self._interval_ms, time.monotonic, self._stretch
        )
        return ChannelPublisher(
            partition,
            epoch,
            self._table,
            self._publisher,
            self._topic,
            ModeAlerts(self._publisher, self._alerts, epoch),
            conflation,
            self._tick,
            self._changed,
            self._make_traces(),
        )

    def _tasks(self) -> list[asyncio.Task[None]]:
        alerts = (publisher.alerts.task for publisher in self._channel_publishers.values())
        return [task for task in (self._writer, self._comparison, *self._writes, *alerts) if task is not None]

    async def stop(self) -> None:
        """Cancel all work; chunks that are not acked are delivered again."""
        await end(*self._tasks())
