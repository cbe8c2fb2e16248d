"""The Publisher on a real Kafka: a process that was stopped with rows in its buffers does not send them late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
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
