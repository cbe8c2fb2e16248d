"""The journal as retention leaves it. In: Kafka, an app id or a topic, an offset. Out: a topic without its head."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from stocktide.streams.kafka.admin import admin_client
from stocktide.tables.recovery.checkpoints import read_checkpoints
from tests.harness.eventually import eventually


async def trim(kafka: str, topic: str, below: int, **access: Any) -> int:
    """Delete the records of partition 0 below an offset; the first offset that is left."""
    partition = TopicPartition(topic, 0)
    async with admin_client(kafka, **access) as admin:
        first: dict[TopicPartition, int] = await admin.delete_records({partition: RecordsToDelete(below)})
    return first[partition]


async def restate_pass_offset(kafka: str, app_id: str) -> int:
    """Wait for a complete restate pass; the offset of the journal from which a rebuild starts."""
    found = 0

    async def is_known() -> bool:
        nonlocal found
        checkpoints = await read_checkpoints(kafka, app_id)
        found = checkpoints.whole.offset if checkpoints.whole else 0
        return found > 2

    await eventually(is_known, 60.0)
    return found
