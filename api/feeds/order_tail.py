"""Reads the end of the topic `reservations` into the hub of orders, while there are subscribers.

In: subscriptions that come and go; a function that makes a Kafka client. Out: a filled hub. Without subscribers nothing
is read: orders cost nothing more than without the feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stocktide.api.feeds.consumer import ReadEpoch, TopicConsumer
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.orders import OrderHub

log = logging.getLogger(__name__)

# Kafka answers a new client within milliseconds, or is away: the subscriber gets 503.
START_SECONDS_MAX = 5.0
# A client that reconnects within this finds what it missed in memory.
UNUSED_SECONDS = 30.0

# A client that is not started, without a group, which fails where its offset does not exist.
MakeConsumer = Callable[[], AIOKafkaConsumer]


class OrderConsumer(TopicConsumer):
    """Reads `reservations` from its end."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, hub: OrderHub, read_epoch: ReadEpoch) -> None:
        super().__init__(consumer, topic, hub, read_epoch)
        self._orders = hub

    async def begin(self) -> None:
        """Begin at the present end. Raises KafkaError."""
        epoch = await self._read_epoch()
        ends = await self.ends()
        self._consumer.assign(self._partitions)
        for partition in self._partitions:
            self._consumer.seek(partition, ends[partition.partition])
        self._orders.begin(ends, epoch)
        self.complete.set()

    def _assign(self) -> None:
        """`begin` has assigned."""

    async def _begin_anew(self, epoch: str) -> None:
        await self.begin()

    async def _poll(self) -> None:
        try:
            await super()._poll()
        except OffsetOutOfRangeError:
            # The topic was created again or lost its end. Clients that reconnect get `reset`.
            log.warning("%s does not have the offsets that were read; the feeds of orders begin anew", self._topic)
            await self.begin()
        await self._look_at_epoch()
        for partition in list(self._orders.gaps):
            if self._hub.position[partition] >= (self._consumer.highwater(self._partitions[partition]) or 0):
                self._orders.gaps.discard(partition)


class OrderTail:
    """Reads while there are users."""

    def __init__(
        self,
        make_consumer: MakeConsumer,
        topic: str,
        hub: OrderHub,
        read_epoch: ReadEpoch,
        unused_seconds: float = UNUSED_SECONDS,
    ) -> None:
        self._read_epoch = read_epoch
        self._make_consumer = make_consumer
        self._topic = topic
        self._hub = hub
        self._unused_seconds = unused_seconds
        self._lock = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.users = 0
        # The reader; None while nothing is read.
        self.source: OrderConsumer | None = None
        # Users may begin at once.
        self.complete = asyncio.Event()
        self.complete.set()

    async def acquire(self) -> None:
        """Read from now on, until `release`. Raises KafkaError, OSError and TimeoutError if Kafka does not answer."""
        self.users += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with self._lock:
                if self.source is None:
                    await self._start()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """End one use."""
        self.users -= 1
        if not self.users:
            self._timer = asyncio.get_running_loop().call_later(self._unused_seconds, self._begin_stop)

    async def ends(self) -> OffsetVector:
        """The present end of the topic. Raises KafkaError."""
        if self.source is None:
            raise KafkaError("nothing is read")
        return await self.source.ends()

    async def close(self) -> None:
        """Stop reading for good."""
        if self._timer is not None:
            self._timer.cancel()
        async with self._lock:
            await self._stop()

    async def _start(self) -> None:
        consumer = self._make_consumer()
        source = OrderConsumer(consumer, self._topic, self._hub, self._read_epoch)
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await consumer.start()
                await source.begin()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer, self.source = consumer, source
        self._reading = asyncio.create_task(source.run())

    def _begin_stop(self) -> None:
        self._stopping = asyncio.create_task(self._stop_unused())

    async def _stop_unused(self) -> None:
        async with self._lock:
            if not self.users:
                await self._stop()

    async def _stop(self) -> None:
        self.source = None
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._consumer is not None:
            await self._consumer.stop()
        self._consumer = self._reading = None
        self._hub.begin(self._hub.position)  # nothing is kept
