"""One worker task per partition: passes chunks to a handler and acks them.

In: the chunk events of one topic. Out: calls of the handler, in order within a partition, concurrent across partitions;
each chunk is acked after its handler returns.

Workers may merge chunks: each call waits for the tick of publication, and the queued chunks go to the handler as one.
An event after a quiet time is handled at once; under load many small chunks become a few large ones.

No exception is raised, because Faust acks an event whose agent raised. A failing handler is called again with the same
chunk until it succeeds, and the rest of the partition waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from msgspec import Struct

from stocktide.agents.publication_tick import PublicationTick
from stocktide.streams import failpoints
from stocktide.streams.backoff import doubling_pauses
from stocktide.streams.kafka.membership import Membership, MembershipLost
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.settlement.stalls import describe_error

logger = logging.getLogger(__name__)

# Called with a chunk and the epoch of its assignment. May be called again with the same chunk.
Handler = Callable[[Chunk, int], Awaitable[None]]
# What is around the handling of a chunk: its span, where traces are exported.
Around = Callable[[Chunk], AbstractContextManager[object]]

# Queued chunks of a partition: the next one is ready when the handler returns.
QUEUED_MAX = 1
# Queued chunks if they are merged, and the limits of one call: some 100 ms of the handler's time.
CHUNKS_MERGED_MAX = 64
MERGED_RECORDS_MAX = 1_000
MERGED_BYTES_MAX = 4 * 1024 * 1024
# The wait before a failed handler is called again.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0


class ChunkInProgress(Struct, frozen=True):
    """The chunk that the handler processes: its first offset, and the error of the newest call or ""."""

    offset: int
    error: str = ""


class PartitionWorkers:
    """The workers of one topic. With a `tick`, chunks are merged, and a call of the handler begins with a tick."""

    def __init__(
        self,
        name: str,
        handle: Handler,
        membership: Membership,
        tick: PublicationTick | None = None,
        around: Around = nullcontext,
    ) -> None:
        self._name = name
        self._handle = handle
        self._membership = membership
        self._tick = tick
        self._around = around
        self._queues: dict[int, asyncio.Queue[tuple[Any, int]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        # By partition: the chunk in progress, and the last offset done.
        self.in_progress: dict[int, ChunkInProgress] = {}
        self.done: dict[int, int] = {}

    async def follow(self, stream: Any) -> None:
        """The body of a Faust agent: feed each chunk of the stream."""
        async for event in stream.noack().events():
            await self.feed(event)

    async def feed(self, event: Any) -> None:
        """Queue an event for its partition's worker; waits while the queue is full."""
        partition = event.message.partition
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = asyncio.Queue(CHUNKS_MERGED_MAX if self._tick else QUEUED_MAX)
            self._tasks.append(asyncio.create_task(self._run(queue), name=f"{self._name}-{partition}"))
        await queue.put((event, self._membership.epoch))

    async def drain(self) -> None:
        """Wait until all queued events are done or dropped."""
        await asyncio.gather(*(queue.join() for queue in self._queues.values()))

    async def stop(self) -> None:
        """Cancel all workers; chunks that are not acked are delivered again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, queue: asyncio.Queue[tuple[Any, int]]) -> None:
        ahead: tuple[Any, int] | None = None
        while True:
            event, epoch = ahead or await queue.get()
            if self._tick is not None:
                await self._tick.wait()
            events, ahead = self._merge(queue, event, epoch)
            try:
                await self._handle_until_done(events, epoch)
            finally:
                self.in_progress.pop(event.message.partition, None)
            for _ in events:
                queue.task_done()

    def _merge(
        self, queue: asyncio.Queue[tuple[Any, int]], first: Any, epoch: int
    ) -> tuple[list[Any], tuple[Any, int] | None]:
        """`first` and the queued events merged with it; and an event taken from the queue beyond a limit, or None."""
        events, records, size = [first], len(first.value.records), _bytes_of(first)
        while self._tick is not None and queue.qsize():
            event, its_epoch = queue.get_nowait()
            records += len(event.value.records)
            size += _bytes_of(event)
            if its_epoch != epoch or records > MERGED_RECORDS_MAX or size > MERGED_BYTES_MAX:
                return events, (event, its_epoch)
            events.append(event)
        return events, None

    async def _handle_until_done(self, events: list[Any], epoch: int) -> None:
        chunk: Chunk = events[0].value
        if len(events) > 1:
            records = tuple(record for event in events for record in event.value.records)
            chunk = Chunk(chunk.topic, chunk.partition, records)
        pauses = doubling_pauses(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        self.in_progress[chunk.partition] = ChunkInProgress(chunk.records[0].offset)
        while self._membership.holds(epoch):
            try:
                with self._around(chunk):
                    await self._handle(chunk, epoch)
            except MembershipLost:
                return
            except Exception as error:
                records, pause = chunk.records, next(pauses)
                self.in_progress[chunk.partition] = ChunkInProgress(records[0].offset, describe_error(error))
                logger.exception(
                    "%s-%d, offsets %d to %d: failed, trying again in %.1f s",
                    chunk.topic,
                    chunk.partition,
                    records[0].offset,
                    records[-1].offset,
                    pause,
                )
                await asyncio.sleep(pause)
            else:
                failpoints.hit("before_commit")
                for event in events:
                    event.ack()
                self.done[chunk.partition] = chunk.records[-1].offset
                return


def _bytes_of(event: Any) -> int:
    return sum(len(record.value or b"") for record in event.value.records)
