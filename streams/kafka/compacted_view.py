"""The newest rows of small compacted topics, followed while `run` runs.

In: topics without a group, from their beginning. Out: the value of each key, and the certainty that everything was read
that was written before a call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.read_topic import topic_consumer

logger = logging.getLogger(__name__)

POLL_MS = 500
# Kafka answers the requests of a connection one after the other: a call of `catch_up` waits behind a fetch, which is
# rare, and every fetch of an idle system costs Kafka a millisecond.
FETCH_MS = 500
RETRY_SECONDS = 1.0
# How often rows are looked for that Kafka has deleted because of their age.
FORGET_SECONDS = 3_600.0


class CompactedView:
    """Rows by topic (full name) and key; `changed` is called after rows have changed. `kept_ms`: how long Kafka keeps a
    row, by topic; of the others each is kept until it is replaced."""

    def __init__(
        self,
        kafka: str,
        *topics: str,
        changed: Callable[[], None] = lambda: None,
        kept_ms: Mapping[str, int] | None = None,
        **security: Any,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._security = security
        self._changed = changed
        self._consumer: AIOKafkaConsumer | None = None
        self._started = asyncio.Event()
        # Set, and cleared at once, after each poll.
        self._read = asyncio.Event()
        self._rows: dict[str, dict[str, bytes]] = {topic: {} for topic in topics}
        self._kept_ms = kept_ms or {}
        # Of the topics that forget: when each row was written (ms).
        self._written: dict[str, dict[str, int]] = {topic: {} for topic in self._kept_ms}
        self._forget_at = time.monotonic() + FORGET_SECONDS

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
            self._take(partition.topic, records)
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_SECONDS
            self._forget(now_ms())
        if fetched:
            self._changed()
        self._read.set()
        self._read.clear()

    def _take(self, topic: str, records: Iterable[Any]) -> None:
        rows, written = self._rows[topic], self._written.get(topic, {})
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                rows.pop(key, None)
                written.pop(key, None)
            else:
                rows[key] = record.value
                written[key] = record.timestamp

    def _forget(self, now: int) -> None:
        """Forget what a process that starts now would not read: else this one grows as long as it runs."""
        for topic, written in self._written.items():
            for key in [key for key, at in written.items() if at < now - self._kept_ms[topic]]:
                del written[key]
                self._rows[topic].pop(key, None)
