"""On assignment: every row of `stock` once more, compared with what was published.

In: the partitions of `stock` that this worker got. Out: the rows, folded beside the stream;
`agents.channel_stock.conflation` lets through what differs from what the channel was told, and nothing else. So a row
of `channel-stock` that a former owner wrote late, or never wrote, is put right, at the latest when the next owner has
read through.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

logger = logging.getLogger(__name__)

# The comparison has no hurry, and orders have: it takes at most this share of the loop's time.
SHARE_MAX = 0.25
# Rows at a time: some ms.
ROWS_MAX = 500
POLL_MS = 500
# Between attempts while Kafka is away.
RETRY_SECONDS = 2.0


class RowFolder(Protocol):
    """What is needed of a partition's outlets."""

    async def fold(self, records: Iterable[Any], ticket: None) -> None: ...


async def compare(kafka: str, topic: str, outlets: Mapping[int, RowFolder], **security: Any) -> None:
    """Fold all that the partitions of `topic` (a full name) hold now. Ends; cancel it when the epoch is over."""
    while True:
        try:
            rows = await _compare_once(kafka, topic, outlets, security)
        except (KafkaError, OSError) as error:
            logger.warning("%s could not be compared yet: %r", topic, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            logger.info("compared %d rows of %s with what was published", rows, topic)
            return


async def _compare_once(kafka: str, topic: str, outlets: Mapping[int, RowFolder], security: Mapping[str, Any]) -> int:
    consumer = AIOKafkaConsumer(**{"bootstrap_servers": kafka, **security}, enable_auto_commit=False)
    try:
        await consumer.start()
        parts = [TopicPartition(topic, partition) for partition in outlets]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        rows = 0
        while [part for part in parts if await consumer.position(part) < ends[part]]:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
            began = time.monotonic()
            for part, records in fetched.items():
                await outlets[part.partition].fold(records, None)
                rows += len(records)
            await asyncio.sleep((time.monotonic() - began) * (1 / SHARE_MAX - 1))
        return rows
    finally:
        await consumer.stop()
