"""Reading topics on a real Kafka, up to the end offsets known at the call."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.read_topic import open_consumer, read_topic
from stocktide.streams.topics import STOCK
from tests.harness.servers import KafkaServer


async def test_a_read_ends_at_the_end_offset_and_the_next_one_continues_there(kafka: KafkaServer, app_id: str) -> None:
    await ensure_topics(kafka.address, app_id, 2)
    topic = STOCK.full_name(app_id)
    partition = TopicPartition(topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.address) as producer:
        for number in range(5):
            await producer.send_and_wait(topic, str(number).encode(), key=b"sku", partition=1)
    consumer = await open_consumer(kafka.address, topic)
    reports: list[tuple[int, int]] = []
    try:
        first = [batch async for batch in read_topic(consumer, {partition: 3}, lambda *counts: reports.append(counts))]
        rest = [batch async for batch in read_topic(consumer)]
        empty = [batch async for batch in read_topic(consumer)]
    finally:
        await consumer.stop()
    assert [record.value for _, records in first for record in records] == [b"0", b"1", b"2"]
    assert reports[-1] == (3, 3)
    assert [(place, record.offset) for place, records in rest for record in records] == [(partition, 3), (partition, 4)]
    assert empty == []


async def test_a_missing_topic_is_an_error(kafka: KafkaServer, app_id: str) -> None:
    with pytest.raises(KafkaError, match=f"no topic {app_id}-missing"):
        await open_consumer(kafka.address, f"{app_id}-missing", request_timeout_ms=2_000)
