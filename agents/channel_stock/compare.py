"""The comparison of all rows of `stock` with the published rows, after an assignment.

In: the assigned partitions of `stock`. Out: their rows, folded beside the stream; `agents.channel_stock.conflation`
passes on only what differs from the published rows. This corrects rows of `channel-stock` that a former owner wrote
late or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.agents.channel_stock.agent import ChannelPublisher
from stocktide.streams.kafka.read_topic import read_topic

logger = logging.getLogger(__name__)

# The share of the event loop's time that the comparison may take: orders go first.
SHARE_MAX = 0.25
# Rows per poll: some ms.
ROWS_MAX = 500
# Between attempts while Kafka does not answer.
RETRY_SECONDS = 2.0


async def compare(kafka: str, topic: str, channel_publishers: Mapping[int, ChannelPublisher], **security: Any) -> None:
    """Fold all current rows of the partitions of `topic` (a full name). Cancel it when the epoch ends."""
    while True:
        try:
            rows = await _compare_once(kafka, topic, channel_publishers, security)
        except (KafkaError, OSError) as error:
            logger.warning("%s could not be compared yet: %r", topic, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            logger.info("compared %d rows of %s with what was published", rows, topic)
            return


async def _compare_once(
    kafka: str, topic: str, channel_publishers: Mapping[int, ChannelPublisher], security: Mapping[str, Any]
) -> int:
    consumer = AIOKafkaConsumer(**{"bootstrap_servers": kafka, **security}, enable_auto_commit=False)
    try:
        await consumer.start()
        parts = [TopicPartition(topic, partition) for partition in channel_publishers]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        rows = 0
        async for part, records in read_topic(consumer, records_max=ROWS_MAX):
            began = time.monotonic()
            await channel_publishers[part.partition].fold(records, None)
            rows += len(records)
            await asyncio.sleep((time.monotonic() - began) * (1 / SHARE_MAX - 1))
        return rows
    finally:
        await consumer.stop()
