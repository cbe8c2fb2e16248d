"""The agent of the topic `stock`: SKU rows → the topic `channel-stock`, which backs the table `channel_stock`.

In: chunks of `stock`. Out: batches of channel updates, when `agents.channel_stock.conflation` makes them due, in the
partition of their SKU. A chunk is acked after the updates it conflated to are written.

An epoch begins for this agent when its table is restored. Then all of `stock` is also compared with the published rows,
and differences are published. This corrects rows that a former owner wrote late.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from stocktide.agents.channel_stock.conflation import Conflation, DueUpdate, PendingAck, decode_stock_row
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_throttle import PublicationThrottle
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher
from stocktide.streams.kafka.transport import Chunk, Record
from stocktide.streams.topics import CHANNEL_STOCK
from stocktide.tables.changelog_table import PublishedTable
from stocktide.tables.settlement.stalls import describe_error

logger = logging.getLogger(__name__)

# Updates per write: blocks the event loop for some ms.
UPDATES_MAX = 500
# Rows folded before the event loop runs other tasks: a millisecond or two.
ROWS_PER_TURN = 50
# After a write failed with an unexpected error.
RETRY_SECONDS = 1.0


class ChannelPublisher:
    """Folds the rows of one partition and publishes due updates, during one epoch."""

    def __init__(
        self,
        partition: int,
        epoch: int,
        table: PublishedTable,
        publisher: Publisher,
        topic: str,
        interval_ms: int,
        throttle: PublicationThrottle,
    ) -> None:
        self._partition = partition
        self.epoch = epoch
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self._throttle = throttle
        self._conflation = Conflation(
            lambda key: table.read(partition, key), interval_ms, time.monotonic, throttle.stretch
        )
        self._changed = asyncio.Event()
        # Updates written so far, and the error of the newest write or "".
        self.written = 0
        self.error = ""
        self._writing = False

    @property
    def due(self) -> int:
        """1 if an update is due and not written yet, else 0."""
        due = self._conflation.next_due()
        return int(self._writing or (due is not None and due <= time.monotonic()))

    async def fold(self, records: Iterable[Record], pending_ack: PendingAck | None) -> None:
        """Fold rows; `pending_ack` is released after their updates are written."""
        for number, record in enumerate(records):
            if record.value is not None:
                self._fold_row(record.value, pending_ack)
            if number % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                self._changed.set()
                await asyncio.sleep(0)
        if pending_ack is not None:
            pending_ack.release()
        self._changed.set()

    async def write_when_due(self, metrics: WorkerMetrics) -> None:
        """Publish updates until the epoch ends."""
        while True:
            with self._throttle.working():
                updates = self._conflation.take_due(UPDATES_MAX)
            if updates:
                if not await self._write(updates):
                    return
                metrics.rows.labels(CHANNEL_STOCK.name).inc(len(updates))
                continue
            await self._wait()

    def _fold_row(self, value: bytes, pending_ack: PendingAck | None) -> None:
        try:
            row = decode_stock_row(value)
        except msgspec.MsgspecError as error:
            logger.error("a row of stock in partition %d cannot be decoded: %s", self._partition, error)
        else:
            self._conflation.fold(row, pending_ack)

    async def _wait(self) -> None:
        due = self._conflation.next_due()
        wait = None if due is None else max(0.0, due - time.monotonic())
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait)

    async def _write(self, updates: list[DueUpdate]) -> bool:
        """Publish updates and store them in the table; False if the epoch is over."""
        self._writing = True
        rows: dict[bytes, bytes | None] = {update.key: update.value for update in updates}
        while True:
            try:
                offsets = await self._publisher.publish(
                    self._topic, list(rows.items()), self.epoch, to_partition=lambda _: self._partition
                )
                with self._throttle.working():
                    self._table.write(self._partition, rows, offsets[self._partition])
            except MembershipLost:
                return False
            except Exception as error:
                self.error = describe_error(error)
                logger.exception("channel-stock-%d: %d updates failed, trying again", self._partition, len(rows))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._writing, self.error, self.written = False, "", self.written + len(updates)
        for update in updates:
            if update.pending_ack is not None:
                update.pending_ack.release()
        return True


# Folds all rows of the given partitions; see agents.channel_stock.compare.
CompareRows = Callable[[dict[int, ChannelPublisher]], Coroutine[Any, Any, None]]


class StockAgent:
    """All partitions of `stock` assigned to this worker. `topic` is the full name of `channel-stock`."""

    def __init__(
        self, table: PublishedTable, publisher: Publisher, topic: str, interval_ms: int, metrics: WorkerMetrics
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self._interval_ms = interval_ms
        self._metrics = metrics
        self._throttle = PublicationThrottle(time.monotonic)
        self._channel_publishers: dict[int, ChannelPublisher] = {}
        self._write_tasks: dict[int, asyncio.Task[None]] = {}
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
        write_task = self._write_tasks[partition]
        ended = write_task.done() and not write_task.cancelled() and write_task.exception()
        return (
            channel_publisher.due,
            channel_publisher.written,
            describe_error(ended) if ended else channel_publisher.error,
        )

    def on_restored(self, partitions: Iterable[int], compare: CompareRows) -> None:
        """Begin an epoch with all partitions assigned: their table is restored, no chunk was delivered yet."""
        self._cancel_tasks()
        epoch = self._publisher.epoch
        self._channel_publishers = {
            partition: ChannelPublisher(
                partition, epoch, self._table, self._publisher, self._topic, self._interval_ms, self._throttle
            )
            for partition in partitions
        }
        self._write_tasks = {
            partition: asyncio.create_task(each.write_when_due(self._metrics), name=f"channel-stock-{partition}")
            for partition, each in self._channel_publishers.items()
        }
        if self._channel_publishers:
            self._comparison = asyncio.create_task(compare(self._channel_publishers), name="compare stock")

    def _cancel_tasks(self) -> list[asyncio.Task[None]]:
        tasks = [*self._write_tasks.values(), *([] if self._comparison is None else [self._comparison])]
        for task in tasks:
            task.cancel()
        return tasks

    async def stop(self) -> None:
        """Cancel all work; chunks that are not acked are delivered again."""
        await asyncio.gather(*self._cancel_tasks(), return_exceptions=True)
