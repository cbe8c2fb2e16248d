"""The agent of the topic `stock`: rows of SKUs → the topic `channel-stock`, which is also the table `channel_stock`.

In: chunks of `stock`. Out: channel updates, in batches, as `agents.channel_stock.conflation` lets them go. A row lies
in the partition of its SKU, and so do its updates. A chunk is acked once what it conflated to was written.

On assignment the whole of `stock` is read once more beside the stream and compared with what was published; what
differs is published. A late row of a former owner is so put right.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from stocktide.agents.channel_stock.conflation import Conflation, DueUpdate, PendingAck, decode_stock_row
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_throttle import PublicationThrottle
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher
from stocktide.streams.kafka.transport import Chunk, Record
from stocktide.streams.topics import CHANNEL_STOCK
from stocktide.tables.settlement.stalls import describe_error

logger = logging.getLogger(__name__)

# Updates written at once: some ms of the loop, which shoppers wait for too. More go with the next write.
UPDATES_MAX = 500
# Rows folded before other work of the loop gets a turn: a millisecond or two.
ROWS_PER_TURN = 50
# After a write that failed for a reason that nobody foresaw.
RETRY_SECONDS = 1.0


class ChannelStockTable(Protocol):
    """What is needed of the table `channel_stock`: rows by partition."""

    def read(self, partition: int, key: bytes) -> bytes | None: ...
    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None: ...


class ChannelPublisher:
    """One partition of one epoch: folds its rows, and writes what is due."""

    def __init__(
        self,
        partition: int,
        epoch: int,
        table: ChannelStockTable,
        publisher: Publisher,
        topic: str,
        interval_ms: int,
        pace: PublicationThrottle,
    ) -> None:
        self._partition = partition
        self._epoch = epoch
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self._pace = pace
        self._conflation = Conflation(lambda key: table.read(partition, key), interval_ms, time.monotonic, pace.stretch)
        self._changed = asyncio.Event()
        # Updates written so far, and why the newest write failed, "" where it did not.
        self.written = 0
        self.trouble = ""
        self._writing = False

    @property
    def due(self) -> int:
        """1 while an update is due and not written, else 0."""
        due = self._conflation.next_due()
        return int(self._writing or (due is not None and due <= time.monotonic()))

    @property
    def epoch(self) -> int:
        """The epoch that these belong to."""
        return self._epoch

    async def fold(self, records: Iterable[Record], ticket: PendingAck | None) -> None:
        """Take in rows; `ticket` is told when what they caused is written."""
        for number, record in enumerate(records):
            if record.value is not None:
                self._fold_one(record.value, ticket)
            if number % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                self._changed.set()
                await asyncio.sleep(0)
        if ticket is not None:
            ticket.release()
        self._changed.set()

    async def write_when_due(self, metrics: WorkerMetrics) -> None:
        """Write updates until the epoch ends."""
        while True:
            with self._pace.working():
                updates = self._conflation.take_due(UPDATES_MAX)
            if updates:
                if not await self._write(updates):
                    return
                metrics.rows.labels(CHANNEL_STOCK.name).inc(len(updates))
                continue
            await self._wait()

    def _fold_one(self, value: bytes, ticket: PendingAck | None) -> None:
        try:
            row = decode_stock_row(value)
        except msgspec.MsgspecError as error:
            logger.error("a row of stock in partition %d is none: %s", self._partition, error)
        else:
            self._conflation.fold(row, ticket)

    async def _wait(self) -> None:
        due = self._conflation.next_due()
        wait = None if due is None else max(0.0, due - time.monotonic())
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait)

    async def _write(self, updates: list[DueUpdate]) -> bool:
        """Publish, then keep; False where the epoch is over."""
        self._writing = True
        rows: dict[bytes, bytes | None] = {update.key: update.value for update in updates}
        while True:
            try:
                offsets = await self._publisher.publish(
                    self._topic, list(rows.items()), self._epoch, to_partition=lambda _: self._partition
                )
                with self._pace.working():
                    self._table.write(self._partition, rows, offsets[self._partition])
            except MembershipLost:
                return False
            except Exception as error:
                self.trouble = describe_error(error)
                logger.exception("channel-stock-%d: %d updates failed, trying again", self._partition, len(rows))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._writing, self.trouble, self.written = False, "", self.written + len(updates)
        for update in updates:
            if update.ticket is not None:
                update.ticket.release()
        return True


# Folds all rows of the partitions of these outlets; see agents.channel_stock.compare.
CompareRows = Callable[[dict[int, ChannelPublisher]], Coroutine[Any, Any, None]]


class StockAgent:
    """All partitions of `stock` that this worker has. `topic` is the full name of `channel-stock`."""

    def __init__(
        self, table: ChannelStockTable, publisher: Publisher, topic: str, interval_ms: int, metrics: WorkerMetrics
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._topic = topic
        self._interval_ms = interval_ms
        self._metrics = metrics
        self._pace = PublicationThrottle(time.monotonic)
        self._outlets: dict[int, ChannelPublisher] = {}
        self._writers: dict[int, asyncio.Task[None]] = {}
        self._comparing: asyncio.Task[None] | None = None

    async def follow(self, stream: Any) -> None:
        """The body of the Faust agent: fold every chunk, ack it when its updates are written."""
        async for event in stream.noack().events():
            await self.take(event.value, event)

    async def take(self, chunk: Chunk, event: Any) -> None:
        """Fold one chunk; `event.ack()` is called when it is done."""
        epoch = self._publisher.epoch
        if not self._publisher.holds(epoch):
            return  # the partition may be gone, and its table with it
        outlets = self.outlets_of(chunk.partition, epoch)
        # What waits for an interval to end need not keep its rows in memory.
        event.value = event.message.value = None
        await outlets.fold(chunk.records, PendingAck(event.ack))

    def outlets_of(self, partition: int, epoch: int) -> ChannelPublisher:
        """The outlets of a partition in this epoch; those of an earlier one end."""
        outlets = self._outlets.get(partition)
        if outlets is None or outlets.epoch != epoch:
            if (writer := self._writers.pop(partition, None)) is not None:
                writer.cancel()
            outlets = ChannelPublisher(
                partition, epoch, self._table, self._publisher, self._topic, self._interval_ms, self._pace
            )
            self._outlets[partition] = outlets
            writing = outlets.write_when_due(self._metrics)
            self._writers[partition] = asyncio.create_task(writing, name=f"channel-stock-{partition}")
        return outlets

    def standing(self, partition: int) -> tuple[int, int, str]:
        """Of a partition: 1 where updates are due, how many were written, why the newest write failed or ""."""
        outlets = self._outlets.get(partition)
        if outlets is None:
            return 0, 0, ""
        writer = self._writers[partition]
        ended = writer.done() and not writer.cancelled() and writer.exception()
        return outlets.due, outlets.written, describe_error(ended) if ended else outlets.trouble

    async def on_assigned(self, partitions: Iterable[int], compare: CompareRows) -> None:
        """Partitions were assigned anew, and the table is read back: begin to compare all of their rows."""
        await self._stop_comparing()
        outlets = {partition: self.outlets_of(partition, self._publisher.epoch) for partition in partitions}
        if outlets:
            self._comparing = asyncio.create_task(compare(outlets), name="compare stock")

    async def _stop_comparing(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.gather(self._comparing, return_exceptions=True)

    async def stop(self) -> None:
        """End all work; what is not acked comes again."""
        await self._stop_comparing()
        for writer in self._writers.values():
            writer.cancel()
        await asyncio.gather(*self._writers.values(), return_exceptions=True)
