"""What is changed in aiokafka's clients, on a real Kafka: when rows are sent, and how long a fetch waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from stocktide.embedded import EmbeddedKafka
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.kafka.transport import COMPLETE_FETCH_WAIT_MS_MAX, FETCH_WAIT_MS_MAX, limit_long_polls
from stocktide.streams.topics import CHANNEL_STOCK
from tests.unit.fakes import FakeMembership

ROW = (b"jd/A", b'{"version":1}')


async def records_of(kafka: str, topic: str) -> list[bytes]:
    async with topic_consumer(kafka, topic) as consumer:
        return [record.value async for _, records in read_topic(consumer) for record in records]


async def test_rows_that_were_in_the_buffers_when_the_process_stopped_are_not_sent_when_it_goes_on(
    kafka: EmbeddedKafka, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(kafka.address, app_id, 1)
    topic, membership = CHANNEL_STOCK.full_name(app_id), FakeMembership(session_seconds=10.0)
    producer = make_producer(kafka.address)
    publisher = Publisher(producer, membership)
    await publisher.start()
    send_batch = producer.send_batch

    async def stop_with_rows_in_the_buffer(*args: Any, **options: Any) -> Any:
        sent = await send_batch(*args, **options)
        membership.now += 13.0
        return sent

    try:
        with monkeypatch.context() as stopped:
            stopped.setattr(producer, "send_batch", stop_with_rows_in_the_buffer)
            publishing = asyncio.create_task(publisher.publish(topic, [ROW], membership.epoch))
            await asyncio.sleep(0.5)
        assert not publishing.done() and await records_of(kafka.address, topic) == []
        membership.end()
        with pytest.raises(MembershipLost):
            await publishing
        membership.begin()
        await publisher.publish(topic, [ROW], membership.epoch)
        assert await records_of(kafka.address, topic) == [ROW[1]]
    finally:
        await publisher.stop()


async def test_a_fetch_waits_shortly_while_records_of_another_partition_are_not_read_yet(
    kafka: EmbeddedKafka, app_id: str
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
        for _ in range(5):
            await consumer.getmany(read, timeout_ms=200)
    finally:
        await consumer.stop()
        await publisher.stop()
    assert set(waits) == {(2, COMPLETE_FETCH_WAIT_MS_MAX), (1, FETCH_WAIT_MS_MAX)}
