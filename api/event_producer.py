"""Produces events to the input topics.

In: (key, value) pairs for a topic. Out: nothing; the call returns when every in-sync replica has all of them. Keys are
partitioned as by Kafka's default partitioner, in agreement with all other producers of these topics.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.partitioner import murmur2

from stocktide.errors import StocktideError
from stocktide.streams.contract.events import BODY_BYTES_MAX
from stocktide.streams.kafka.publish import MakeHeaders

# Large enough to amortise the round trip, below the default limit of a broker.
BATCH_BYTES_MAX = 256 * 1024
# The largest event with its key and framing.
REQUEST_BYTES_MAX = BODY_BYTES_MAX + 64 * 1024
_REQUEST_TIMEOUT_MS = 10_000
# Records appended before the loop runs other tasks, about 2 ms.
RECORDS_PER_TURN_MAX = 200

# None as a value removes the key of a compacted topic.
KeyValue = tuple[bytes, bytes | None]


def make_producer(kafka: str, **security: Any) -> AIOKafkaProducer:
    """The Kafka client of an InputEventProducer, not started. Idempotent: retries keep the order."""
    return AIOKafkaProducer(
        **{"bootstrap_servers": kafka, **security},
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=REQUEST_BYTES_MAX,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )


class ProduceFailed(StocktideError):
    """Kafka did not acknowledge all events in time; some may be stored, and ids make a repetition of all safe."""


class InputEventProducer:
    """Writes events; the owner starts and stops `producer`. `headers` are asked for once per write."""

    def __init__(self, producer: AIOKafkaProducer, headers: MakeHeaders | None = None) -> None:
        self._producer = producer
        self._headers = headers
        # Pending calls, completed calls, the error of the newest call ("" after a success), and the newest topic.
        self.waiting = 0
        self.written = 0
        self.trouble = ""
        self.topic = ""

    async def write(self, topic: str, entries: Sequence[KeyValue], deadline: float) -> None:
        """Write `entries` to `topic` (its full name), in order per key. Raises ProduceFailed."""
        self.waiting, self.topic = self.waiting + 1, topic
        try:
            async with asyncio.timeout_at(deadline):
                partitions = len(await self._producer.partitions_for(topic))
                by_partition: dict[int, list[KeyValue]] = defaultdict(list)
                for entry in entries:
                    by_partition[(murmur2(entry[0]) & 0x7FFFFFFF) % partitions].append(entry)
                acks: list[Any] = []
                for partition, some in by_partition.items():
                    acks += await self._send(topic, partition, some)
                await asyncio.gather(*acks)
        except (KafkaError, TimeoutError) as error:
            reason = "in time" if isinstance(error, (TimeoutError, RequestTimedOutError)) else str(error)
            self.trouble = f"Kafka did not take the events: {reason}"
            raise ProduceFailed(self.trouble) from error
        finally:
            self.waiting -= 1
        self.written, self.trouble = self.written + 1, ""

    async def _send(self, topic: str, partition: int, entries: Sequence[KeyValue]) -> list[Any]:
        acks = []
        headers = [] if self._headers is None else self._headers()
        batch = self._producer.create_batch()
        for count, (key, value) in enumerate(entries):
            if count % RECORDS_PER_TURN_MAX == RECORDS_PER_TURN_MAX - 1:
                await asyncio.sleep(0)
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                acks.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        batch.close()
        acks.append(await self._producer.send_batch(batch, topic, partition=partition))
        return acks
