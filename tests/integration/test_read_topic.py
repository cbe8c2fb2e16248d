"""Reading topics on a real Kafka, up to the end offsets known at the call."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.api.cursors import decode_cursor
from stocktide.api.handlers import alerts
from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.backward import BackwardReader
from stocktide.streams.kafka.read_topic import open_consumer, read_topic
from stocktide.streams.topics import ALERTS, STOCK
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


async def test_partitions_are_read_backward_by_time_from_any_place_in_windows_of_any_size(
    kafka: KafkaServer, app_id: str
) -> None:
    await ensure_topics(kafka.address, app_id, 2)
    topic = STOCK.full_name(app_id)
    parts = [TopicPartition(topic, number) for number in range(2)]
    async with AIOKafkaProducer(bootstrap_servers=kafka.address) as producer:
        for number in range(12):
            more = {"partition": int(number % 3 == 0), "timestamp_ms": 1_700_000_000_000 + number}
            await producer.send_and_wait(topic, str(number).encode(), key=b"sku", **more)
    consumer = await open_consumer(kafka.address, topic)
    ends, floors = {parts[0]: 8, parts[1]: 4}, {parts[0]: 1, parts[1]: 0}
    try:
        for window in (1, 3, 100):
            reader = BackwardReader(consumer, ends, floors, window)
            found = [int(record.value or b"") async for _, record in reader.records()]
            assert found == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 0] and reader.ended
            first, found = BackwardReader(consumer, ends, floors, window), []
            async for _, record in first.records():
                found.append(int(record.value or b""))
                if len(found) == 4:
                    break
            assert not first.ended
            rest = BackwardReader(consumer, first.places, floors, window)
            assert found + [int(record.value or b"") async for _, record in rest.records()] == [
                *(11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 0)
            ]
    finally:
        await consumer.stop()


async def test_a_page_of_which_nothing_is_shown_goes_back_by_all_that_it_may_read(
    kafka: KafkaServer, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "ROWS_READ_MAX", 500)
    await ensure_topics(kafka.address, app_id, 1)
    topic = ALERTS.full_name(app_id)
    rows = [PublishedAlert(id=str(number), type="drift", at="2026-11-11T00:00:00Z", batch=1) for number in range(1_200)]
    async with AIOKafkaProducer(bootstrap_servers=kafka.address) as producer:
        await asyncio.gather(*[await producer.send(topic, encode(row), partition=0) for row in rows])
    consumer = await open_consumer(kafka.address, topic)
    wanted = alerts.AlertFilter(frozenset({"stalled"}), None, None, None)
    cursor: alerts.PlacesCursor | None = None
    places = []
    try:
        for _ in range(3):
            page = await alerts._page(consumer, wanted, cursor, 10)
            assert page.items == []
            found = None if page.next is None else decode_cursor(page.next, alerts.PlacesCursor)
            assert found is None or isinstance(found, alerts.PlacesCursor)
            cursor = found
            places.append(None if cursor is None else cursor.places)
    finally:
        await consumer.stop()
    assert places == [(700,), (200,), None]


async def test_a_missing_topic_is_an_error(kafka: KafkaServer, app_id: str) -> None:
    with pytest.raises(KafkaError, match=f"no topic {app_id}-missing"):
        await open_consumer(kafka.address, f"{app_id}-missing", request_timeout_ms=2_000)
