"""Chunks to a handler, partition by partition; acks what is done.

In: the chunk events of one topic. Out: calls of the handler, one at a time and in order within a partition, side by
side across partitions; each chunk is acked once its handler returned.

No exception leaves: Faust acks an event whose agent raised. A handler that fails is called again, with the same chunk,
until it succeeds: what lies behind it in the partition waits, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from streams.membership import Membership, MembershipLost
from streams.transport import Chunk

logger = logging.getLogger(__name__)

# Called with a chunk and the epoch of the assignment that brought it. May be called again with the same chunk.
Handler = Callable[[Chunk, int], Awaitable[None]]

# Chunks that wait in one lane: one is ready when the other is done.
WAITING_MAX = 1
# Between calls of a handler that fails.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0


class Lanes:
    """The lanes of one topic. `feed` and `stop` are called from the loop."""

    def __init__(self, name: str, handle: Handler, membership: Membership) -> None:
        self._name = name
        self._handle = handle
        self._membership = membership
        self._queues: dict[int, asyncio.Queue[tuple[Any, int]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def follow(self, stream: Any) -> None:
        """The body of a Faust agent: feed every chunk of the stream."""
        async for event in stream.noack().events():
            await self.feed(event)

    async def feed(self, event: Any) -> None:
        """Hand an event to its partition's lane; waits while that one is full."""
        partition = event.message.partition
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = asyncio.Queue(WAITING_MAX)
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
        while True:
            event, epoch = await queue.get()
            await self._do(event, epoch)
            queue.task_done()

    async def _do(self, event: Any, epoch: int) -> None:
        chunk: Chunk = event.value
        wait = RETRY_SECONDS_MIN
        while self._membership.holds(epoch):
            try:
                await self._handle(chunk, epoch)
            except MembershipLost:
                return
            except Exception:
                records = chunk.records
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
                event.ack()
                return
