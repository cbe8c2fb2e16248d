"""Reads what a client missed from the topic `reservations`, where the hub of orders does not have it any more.

In: a channel, and the vector of the client's last frame. Out: frames with the client's own ids, up to where the hub
began or was when the reading began. Each client has a Kafka client of its own; a few read at a time, the others wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.api.feeds.frames import SSE
from stocktide.api.feeds.offset_vector import EventIds, OffsetVector
from stocktide.api.feeds.orders import decode_head
from stocktide.api.feeds.subscriber import HEARTBEAT_SECONDS, WRITE_BYTES_MAX
from stocktide.streams.contract.documents import order_document

if TYPE_CHECKING:  # the transport imports Faust, which the API does without
    from stocktide.streams.kafka.transport import Record

log = logging.getLogger(__name__)

# Each has a connection and a buffer of a fetch; more would only share the broker.
READERS_MAX = 4
# This many rows block the loop for about 3 ms.
RECORDS_PER_TURN_MAX = 1_000
POLL_MS = 500
# Of each partition, in one fetch: clients that come back together share the memory.
HISTORY_FETCH_BYTES_MAX = 256 * 1024
RETRY_SECONDS = 1.0
# The interval in which a waiting client looks for its turn.
TURN_SECONDS = 0.2

Send = Callable[[bytes], Awaitable[None]]


class OrderHistory:
    """Reads for the clients of one process."""

    def __init__(self, make_consumer: Callable[[], AIOKafkaConsumer], topic: str) -> None:
        self._make_consumer = make_consumer
        self._topic = topic
        self._turns = asyncio.Semaphore(READERS_MAX)
        # Clients that wait or read.
        self.readers = 0

    async def read(self, reading: HistoryReading) -> OffsetVector:
        """Send what a client misses, with heartbeats; its vector after that. Errors of Kafka are retried; raises those
        of sending."""
        self.readers += 1
        try:
            while self._turns.locked() and not reading.has_ended():
                await asyncio.sleep(TURN_SECONDS)
                await reading.send_heartbeat()
            async with self._turns:
                while not await self._attempt(reading):
                    await asyncio.sleep(RETRY_SECONDS)
                    await reading.send_heartbeat()
        finally:
            self.readers -= 1
        return reading.vector

    async def _attempt(self, reading: HistoryReading) -> bool:
        consumer = self._make_consumer()
        try:
            await consumer.start()
            await reading.run(consumer, self._topic)
        except KafkaError as error:
            log.warning("reading %s for a client: %s; trying again", self._topic, error)
            return False
        finally:
            await consumer.stop()
        return True


class HistoryReading:
    """What one client misses: a channel's rows that are not below `seen` and below `until`. It stops when `has_ended`
    becomes true."""

    def __init__(
        self,
        channel: str,
        seen: OffsetVector,
        until: OffsetVector,
        send: Send,
        has_ended: Callable[[], bool],
        ids: EventIds,
    ) -> None:
        self.has_ended = has_ended
        self._ids = ids
        self._channel = channel
        self._offsets = list(seen)
        self._until = until
        self._send = send
        self._frames: list[bytes] = []
        self._size = 0
        self._sent_at = asyncio.get_running_loop().time()

    @property
    def vector(self) -> OffsetVector:
        """Everything below it was sent."""
        return tuple(self._offsets)

    async def run(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        """Read to the end. Raises KafkaError and the errors of `send`; may be called again."""
        offsets = self._offsets
        waiting = {TopicPartition(topic, n) for n, end in enumerate(self._until) if offsets[n] < end}
        consumer.assign(waiting)
        for partition in waiting:
            consumer.seek(partition, offsets[partition.partition])
        while waiting and not self.has_ended():
            fetched: dict[Any, list[Record]] = await consumer.getmany(
                *waiting, timeout_ms=POLL_MS, max_records=RECORDS_PER_TURN_MAX
            )
            for partition, records in fetched.items():
                await self._take(partition.partition, records)
            await self._flush()
            await self.send_heartbeat()
            for partition in list(waiting):
                number = partition.partition
                if await consumer.position(partition) >= self._until[number]:
                    offsets[number] = max(offsets[number], self._until[number])
                    waiting.discard(partition)
                    consumer.pause(partition)
            await asyncio.sleep(0)

    async def send_heartbeat(self) -> None:
        """Send one if nothing was sent for long."""
        if asyncio.get_running_loop().time() - self._sent_at >= HEARTBEAT_SECONDS:
            await self._write(SSE.heartbeat)

    async def _take(self, partition: int, records: list[Record]) -> None:
        for record in records:
            if record.offset >= self._until[partition]:
                return
            self._offsets[partition] = record.offset + 1
            if (frame := self._frame(record)) is not None:
                self._frames.append(frame)
                self._size += len(frame)
                if self._size >= WRITE_BYTES_MAX:
                    await self._flush()

    def _frame(self, record: Record) -> bytes | None:
        """The frame of a row of the channel."""
        if record.value is None:
            return None
        try:
            if decode_head(record.value).channel != self._channel:
                return None
            return SSE.event("order", order_document(record.value), self._ids.format(self._offsets))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.error("not an order in reservations at offset %d; skipped", record.offset)
            return None

    async def _flush(self) -> None:
        if self._frames:
            frames, self._frames, self._size = b"".join(self._frames), [], 0
            await self._write(frames)

    async def _write(self, chunk: bytes) -> None:
        await self._send(chunk)
        self._sent_at = asyncio.get_running_loop().time()
