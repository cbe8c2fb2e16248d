"""The newest rows of small compacted topics, followed while `run` runs.

In: topics without a group, from their beginning. Out: the value of each key, and the certainty that everything was read
that was written before a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from stocktide.streams.kafka.read_topic import topic_consumer

logger = logging.getLogger(__name__)

POLL_MS = 500
# Kafka answers the requests of a connection one after the other: a call of `catch_up` waits behind a fetch, which is
# rare, and every fetch of an idle system costs Kafka a millisecond.
FETCH_MS = 500
RETRY_SECONDS = 1.0


class CompactedView:
    """Rows by topic (full name) and key; `changed` is called after rows have changed."""

    def __init__(self, kafka: str, *topics: str, changed: Callable[[], None] = lambda: None, **security: Any) -> None:
        self._kafka = kafka
        self._topics = topics
        self._security = security
        self._changed = changed
        self._consumer: AIOKafkaConsumer | None = None
        self._started = asyncio.Event()
        # Set, and cleared at once, after each poll.
        self._read = asyncio.Event()
        self._rows: dict[str, dict[str, bytes]] = {topic: {} for topic in topics}

    def rows(self, topic: str) -> dict[str, bytes]:
        """The rows of a topic; do not change them."""
        return self._rows[topic]

    async def run(self) -> None:
        """Follow the topics until cancelled; errors of Kafka are retried."""
        client = {"fetch_max_wait_ms": FETCH_MS, **self._security}
        while True:
            try:
                async with topic_consumer(self._kafka, *self._topics, **client) as consumer:
                    self._consumer = consumer
                    self._started.set()
                    while True:
                        await self._poll(consumer)
            except (KafkaError, OSError) as error:
                logger.warning("reading %s: %s; trying again", " and ".join(self._topics), error)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._consumer = None
                self._started.clear()

    async def catch_up(self, seconds_max: float) -> None:
        """Wait until everything was read that is in the topics now. Raises TimeoutError and KafkaError."""
        async with asyncio.timeout(seconds_max):
            await self._started.wait()
            if (consumer := self._consumer) is None:
                raise KafkaError("the topics cannot be read")
            ends = await consumer.end_offsets(sorted(consumer.assignment()))
            while any([await consumer.position(part) < end for part, end in ends.items()]):
                await self._read.wait()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=POLL_MS)
        for partition, records in fetched.items():
            rows = self._rows[partition.topic]
            for record in records:
                key = (record.key or b"").decode(errors="replace")
                if record.value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = record.value
        if fetched:
            self._changed()
        self._read.set()
        self._read.clear()
