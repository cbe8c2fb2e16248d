"""Trims the journal by age, but only below the offset that readers still need (rule R9).

In: the highest offset at which the journal may begin. Out: the one at which it begins. Kafka's own retention is off.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete

from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.topics import JOURNAL


async def trim_journal(kafka: str, app_id: str, below: int, shard: int = 0, **security: Any) -> int:
    """Delete records older than the journal's retention and below offset `below`. Gives the offset at which the journal
    begins then. Raises KafkaError."""
    partition = TopicPartition(JOURNAL.full_name(app_id), shard)
    beginning, old = await _bounds(kafka, partition, security)
    target = min(below, old)
    if target <= beginning:
        return beginning
    async with admin_client(kafka, **security) as admin:
        begins = await admin.delete_records({partition: RecordsToDelete(before_offset=target)})
    return int(begins[partition])


async def _bounds(kafka: str, partition: TopicPartition, security: dict[str, Any]) -> tuple[int, int]:
    """The partition's first offset, and the first one within its retention."""
    assert JOURNAL.retention_ms is not None
    client = {"bootstrap_servers": kafka, **security}
    async with AIOKafkaConsumer(**client, group_id=None, enable_auto_commit=False) as consumer:
        consumer.assign([partition])
        beginning = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        since = now_ms() - JOURNAL.retention_ms
        found = (await consumer.offsets_for_times({partition: since}))[partition]
        return int(beginning), int(found.offset if found is not None else end)
