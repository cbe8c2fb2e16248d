"""Chunks to a handler, partition by partition; acks what is done.

In: the chunk events of one topic. Out: calls of the handler, one at a time and in order within a partition, side by
side across partitions; each chunk is acked once its handler returned.

A lane may gather: what came in the meantime goes to the handler as one chunk, and calls begin at least so far apart.
An event that comes after a quiet time is handled at once; under load many small chunks become a few large ones.

No exception leaves: Faust acks an event whose agent raised. A handler that fails is called again, with the same chunk,
until it succeeds: what lies behind it in the partition waits, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from stocktide.streams import failpoints
from stocktide.streams.kafka.membership import Membership, MembershipLost
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.settlement.stalls import describe_error

logger = logging.getLogger(__name__)

# Called with a chunk and the epoch of the assignment that brought it. May be called again with the same chunk.
Handler = Callable[[Chunk, int], Awaitable[None]]

# Chunks that wait in one lane: one is ready when the other is done.
WAITING_MAX = 1
# Those of a lane that gathers, and what one call gets at most: some 100 ms of a handler's time.
GATHERED_MAX = 64
GATHERED_RECORDS_MAX = 1_000
GATHERED_BYTES_MAX = 4 * 1024 * 1024
# A call of a lane that gathers begins so many times as long after the last one as that one worked (what it waited for
# Kafka does not count), so that a busy lane does not keep the loop from others: of many states of one key the newest is
# enough, and a longer pause finds more of them. But no later than this, for those who look at the rows.
REST_FACTOR = 8.0
GATHER_SECONDS_MAX = 0.15
# Between calls of a handler that fails.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0


class ChunkInProgress(Struct, frozen=True):
    """The chunk that a lane's handler has: its first offset, and why the newest call failed, "" where none did."""

    offset: int
    trouble: str = ""


class PartitionWorkers:
    """The lanes of one topic. `feed` and `stop` are called from the loop.

    They gather where `gather_seconds`, the shortest time between two calls, is not 0; `worked` says how many seconds
    the handler has kept the loop busy so far.
    """

    def __init__(
        self,
        name: str,
        handle: Handler,
        membership: Membership,
        gather_seconds: float = 0.0,
        worked: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._name = name
        self._handle = handle
        self._membership = membership
        self._gather_seconds = gather_seconds
        self._worked = worked
        self._queues: dict[int, asyncio.Queue[tuple[Any, int]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        # By partition: what the handler has now, and the last offset that is done.
        self.under_way: dict[int, ChunkInProgress] = {}
        self.done: dict[int, int] = {}

    async def follow(self, stream: Any) -> None:
        """The body of a Faust agent: feed every chunk of the stream."""
        async for event in stream.noack().events():
            await self.feed(event)

    async def feed(self, event: Any) -> None:
        """Hand an event to its partition's lane; waits while that one is full."""
        partition = event.message.partition
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = asyncio.Queue(GATHERED_MAX if self._gather_seconds else WAITING_MAX)
            self._tasks.append(asyncio.create_task(self._work(queue), name=f"{self._name}-{partition}"))
        await queue.put((event, self._membership.epoch))

    async def rest(self) -> None:
        """Wait until all that was fed is done, or dropped."""
        await asyncio.gather(*(queue.join() for queue in self._queues.values()))

    async def stop(self) -> None:
        """End all work, wherever it is; what is not acked comes again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, queue: asyncio.Queue[tuple[Any, int]]) -> None:
        clock = asyncio.get_running_loop().time
        next_begin, ahead = float("-inf"), None
        while True:
            event, epoch = ahead or await queue.get()
            if (early := next_begin - clock()) > 0:
                await asyncio.sleep(early)
            begun, worked = clock(), self._worked()
            events, ahead = self._gather(queue, event, epoch)
            try:
                await self._do(events, epoch)
            finally:
                self.under_way.pop(event.message.partition, None)
            if self._gather_seconds:
                pause = max(self._gather_seconds, (self._worked() - worked) * REST_FACTOR)
                next_begin = begun + min(pause, GATHER_SECONDS_MAX)
            for _ in events:
                queue.task_done()

    def _gather(
        self, queue: asyncio.Queue[tuple[Any, int]], first: Any, epoch: int
    ) -> tuple[list[Any], tuple[Any, int] | None]:
        """`first` and what may go with it (the same assignment, not too many records); and what came out beyond."""
        events, records, size = [first], len(first.value.records), _bytes_of(first)
        while self._gather_seconds and queue.qsize():
            event, its_epoch = queue.get_nowait()
            records += len(event.value.records)
            size += _bytes_of(event)
            if its_epoch != epoch or records > GATHERED_RECORDS_MAX or size > GATHERED_BYTES_MAX:
                return events, (event, its_epoch)
            events.append(event)
        return events, None

    async def _do(self, events: list[Any], epoch: int) -> None:
        chunk: Chunk = events[0].value
        if len(events) > 1:
            records = tuple(record for event in events for record in event.value.records)
            chunk = Chunk(chunk.topic, chunk.partition, records)
        wait = RETRY_SECONDS_MIN
        self.under_way[chunk.partition] = ChunkInProgress(chunk.records[0].offset)
        while self._membership.holds(epoch):
            try:
                await self._handle(chunk, epoch)
            except MembershipLost:
                return
            except Exception as error:
                records = chunk.records
                self.under_way[chunk.partition] = ChunkInProgress(records[0].offset, describe_error(error))
                logger.exception(
                    "%s-%d, offsets %d to %d: failed, trying again in %.1f s",
                    chunk.topic,
                    chunk.partition,
                    records[0].offset,
                    records[-1].offset,
                    wait,
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)
            else:
                failpoints.hit("before_commit")
                for event in events:
                    event.ack()
                self.done[chunk.partition] = chunk.records[-1].offset
                return


def _bytes_of(event: Any) -> int:
    return sum(len(record.value or b"") for record in event.value.records)
