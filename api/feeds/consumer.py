"""Reads a compacted topic into its hub, without a group: `channel-stock` from its beginning.

In: a started Kafka consumer. Out: a filled hub, and an event when it has reached the end that the topic had at the
start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.api.feeds.hub import Hub, TopicHub
from stocktide.api.feeds.offset_vector import OffsetVector

log = logging.getLogger(__name__)

# This many rows block the loop for about 3 ms.
RECORDS_PER_TURN_MAX = 1_000
# The duration of an empty poll, which delays only the check for the end.
POLL_MS = 200
# The client reconnects by itself; more frequent polls would only fill the log.
RETRY_SECONDS = 1.0
# A topic is deleted and made anew under a running process only by hand; its clients may read the new one so late.
EPOCH_SECONDS = 10.0

# The epoch of a topic as it is now. Raises KafkaError.
ReadEpoch = Callable[[], Awaitable[str]]
# Records of each partition, at least one.
Fetched = Mapping[TopicPartition, Sequence[ConsumerRecord]]


class TopicConsumer:
    """Reads the topic into the hub while `run` runs."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        hub: TopicHub,
        read_epoch: ReadEpoch,
        offsets: AIOKafkaConsumer | None = None,
    ) -> None:
        self._consumer = consumer
        # A client that fetches nothing: Kafka answers the requests of a connection one after the other.
        self._offsets = offsets or consumer
        self._read_epoch = read_epoch
        self._epoch_at = 0.0
        self._hub = hub
        self._partitions = [TopicPartition(topic, number) for number in range(hub.partitions)]
        self._topic = topic
        # Set when everything that was published before the start was read.
        self.complete = asyncio.Event()
        self.epoch_seconds = EPOCH_SECONDS
        # The error of the newest read, "" after a success.
        self.trouble = ""

    async def run(self) -> None:
        """Read until cancelled; errors of Kafka are retried."""
        self._assign()
        while True:
            try:
                await self._poll()
                self.trouble = ""
            except KafkaError as error:
                self.trouble = str(error)
                log.warning("reading %s: %s; trying again", self._topic, error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # a bug: without this reader every feed would stop
                self.trouble = repr(error)
                log.exception("reading %s failed; continuing after the last row", self._topic)
                for partition in self._partitions:
                    self._consumer.seek(partition, self._hub.position[partition.partition])
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def position(self) -> OffsetVector:
        """The offset vector below which the hub has everything."""
        return self._hub.position

    async def read(self) -> OffsetVector:
        """The position of the consumer, which includes offsets without a row. Raises KafkaError."""
        return tuple([await self._consumer.position(partition) for partition in self._partitions])

    async def ends(self) -> OffsetVector:
        """The present end of the topic. Raises KafkaError."""
        found = await self._offsets.end_offsets(self._partitions)
        return tuple(found[partition] for partition in self._partitions)

    def _assign(self) -> None:
        self._consumer.assign(self._partitions)

    async def _look_at_epoch(self) -> None:
        """Check the epoch from time to time."""
        if asyncio.get_running_loop().time() >= self._epoch_at + self.epoch_seconds:
            await self._check_epoch()

    async def _check_epoch(self) -> bool:
        """Begin anew if the topic is another one by now: its offsets mean other rows. Whether it is. Raises
        KafkaError."""
        self._epoch_at = asyncio.get_running_loop().time()
        epoch = await self._read_epoch()
        if not self._hub.ids.epoch or epoch == self._hub.ids.epoch:
            return False
        log.warning("%s was made anew; its feeds begin anew", self._topic)
        await self._begin_anew(epoch)
        return True

    async def _begin_anew(self, epoch: str) -> None:
        """Read another topic of this name from now on. Raises KafkaError."""

    async def _poll(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_PER_TURN_MAX)
        if await self._is_of_another_log(fetched):
            return
        for partition, records in fetched.items():
            self._hub.add(partition.partition, records)
        await asyncio.sleep(0)

    async def _is_of_another_log(self, fetched: Fetched) -> bool:
        """A log that has become shorter may be another one, whose rows must not get ids of this one. Raises
        KafkaError."""
        if all(records[0].offset >= self._hub.position[at.partition] for at, records in fetched.items()):
            return False
        try:
            return await self._check_epoch()
        except KafkaError:
            for partition, records in fetched.items():
                self._consumer.seek(partition, records[0].offset)
            raise


class ChannelStockConsumer(TopicConsumer):
    """Reads `channel-stock` from its beginning."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        hub: Hub,
        read_epoch: ReadEpoch,
        offsets: AIOKafkaConsumer | None = None,
    ) -> None:
        super().__init__(consumer, topic, hub, read_epoch, offsets)
        self._channels = hub
        self._ends: dict[TopicPartition, int] | None = None

    async def _poll(self) -> None:
        if self._ends is None:
            await self._consumer.seek_to_beginning(*self._partitions)
            self._ends = await self._consumer.end_offsets(self._partitions)
        await super()._poll()
        await self._look_at_epoch()
        if self._ends is not None and not self.complete.is_set() and await self._at_ends(self._ends):
            self.complete.set()
            log.info("the feeds are complete: %d channel updates", self._channels.rows)

    async def _begin_anew(self, epoch: str) -> None:
        self.complete.clear()
        self._ends = None
        self._channels.begin(epoch)

    async def _at_ends(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            position = await self._consumer.position(partition)
            if position < end:
                return False
            self._hub.advance_partition(partition.partition, end)
        return True
