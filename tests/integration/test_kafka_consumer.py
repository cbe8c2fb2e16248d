"""What is changed in aiokafka's consumer, on a real Kafka: how long a fetch waits."""

from __future__ import annotations

import itertools
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.long_polls import COMPLETE_FETCH_WAIT_MS_MAX, FETCH_WAIT_MS_MAX, limit_long_polls
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.topics import CHANNEL_STOCK
from tests.harness.servers import KafkaServer
from tests.unit.fakes import FakeMembership

ROW = (b"jd/A", b'{"version":1}')


async def test_a_fetch_waits_shortly_while_records_of_another_partition_have_just_come(
    kafka: KafkaServer, app_id: str
) -> None:
    await ensure_topics(kafka.address, app_id, 2)
    topic, membership = CHANNEL_STOCK.full_name(app_id), FakeMembership()
    read, unread = TopicPartition(topic, 0), TopicPartition(topic, 1)
    publisher = Publisher(make_producer(kafka.address), membership)
    await publisher.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    limit_long_polls(consumer._fetcher)
    waits: list[tuple[int, int]] = []
    send = consumer._client.send

    async def send_and_note(node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            waits.append((sum(len(partitions) for _, partitions in request.topics), request._max_wait_ms))
        return await send(node_id, request, **options)

    consumer._client.send = send_and_note
    try:
        consumer.assign([read, unread])
        await consumer.getmany(read, timeout_ms=200)
        await publisher.publish(topic, [ROW], membership.epoch, to_partition=lambda _: unread.partition)
        for _ in range(10):
            await consumer.getmany(read, timeout_ms=200)
    finally:
        await consumer.stop()
        await publisher.stop()
    complete, short, unread = (2, COMPLETE_FETCH_WAIT_MS_MAX), (1, FETCH_WAIT_MS_MAX), (1, COMPLETE_FETCH_WAIT_MS_MAX)
    assert [wait for wait, _ in itertools.groupby(waits)] == [complete, short, unread]
