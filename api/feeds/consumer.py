"""Where the hub's rows come from: the compacted topic `channel-stock`, from its beginning, without a group.

In: a started consumer of the topic. Out: the hub filled, and word of when it has caught up with where the topic ended
at the start.
"""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector

log = logging.getLogger(__name__)

# Between two rests the loop is held for about 2 ms at this many rows: requests wait no longer.
RECORDS_PER_TURN_MAX = 500
# How long one poll waits where nothing comes; only the check of having caught up waits for it.
POLL_MS = 200
# After a failed poll the client reconnects by itself; asking sooner would only fill the log.
RETRY_SECONDS = 1.0


class ChannelStockConsumer:
    """Reads the topic into the hub for as long as `run` runs."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, hub: Hub) -> None:
        self._consumer = consumer
        self._hub = hub
        self._partitions = [TopicPartition(topic, number) for number in range(hub.partitions)]
        self._ends: dict[TopicPartition, int] | None = None
        # Set once everything was read that was there at the start.
        self.complete = asyncio.Event()
        # Why the newest read failed, "" where it did not.
        self.trouble = ""

    async def run(self) -> None:
        """Read until cancelled; what Kafka refuses is tried again."""
        self._consumer.assign(self._partitions)
        while True:
            try:
                await self._turn()
                self.trouble = ""
            except KafkaError as error:
                self.trouble = str(error)
                log.warning("reading channel-stock: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # a bug: without its source every feed would stand still for ever
                self.trouble = repr(error)
                log.exception("reading channel-stock failed; going on behind what was taken in")
                for partition in self._partitions:
                    self._consumer.seek(partition, self._hub.position[partition.partition])
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def position(self) -> OffsetVector:
        """The cut below which the hub holds everything."""
        return self._hub.position

    async def read(self) -> OffsetVector:
        """How far each partition was read, with what holds no row of ours. Raises KafkaError."""
        return tuple([await self._consumer.position(partition) for partition in self._partitions])

    async def ends(self) -> OffsetVector:
        """Where the topic ends now. Raises KafkaError."""
        found = await self._consumer.end_offsets(self._partitions)
        return tuple(found[partition] for partition in self._partitions)

    async def _turn(self) -> None:
        if self._ends is None:
            await self._consumer.seek_to_beginning(*self._partitions)
            self._ends = await self._consumer.end_offsets(self._partitions)
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_PER_TURN_MAX)
        for partition, records in fetched.items():
            self._hub.add((partition.partition, record.offset, record.key, record.value) for record in records)
        await asyncio.sleep(0)
        if not self.complete.is_set() and await self._at_ends(self._ends):
            self.complete.set()
            log.info("the feeds are complete: %d channel updates", self._hub.rows)

    async def _at_ends(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            position = await self._consumer.position(partition)
            if position < end:
                return False
            self._hub.advance_partition(partition.partition, end)
        return True
