"""Rows that Kafka never accepts are set aside, one by one, and not sent again."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from stocktide.agents.dead_letters import RefusedRowHandler
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN, OutputRow, Publisher, partition_of
from tests.unit.fakes import FakeMembership, FakeProducer, FakeProducerBatch, RecordingPublisher

RECORD_BYTES_MAX = 100


class SizeLimitedProducer(FakeProducer):
    """A broker that always refuses a batch with a record that is too large."""

    def __init__(self) -> None:
        self.written: list[OutputRow] = []
        self.refused = 0

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send_batch(self, batch: FakeProducerBatch, topic: str, partition: int) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if any(len(value or b"") > RECORD_BYTES_MAX for _, value in batch.rows):
            self.refused += 1
            sent.set_exception(MessageSizeTooLargeError())
        else:
            self.written += batch.rows
            sent.set_result(type("Metadata", (), {"offset": len(self.written) - len(batch.rows)}))
        return sent


async def test_a_row_that_is_refused_is_found_and_handed_over_and_the_others_are_written_in_order() -> None:
    producer, aside = SizeLimitedProducer(), []

    async def set_aside(topic: str, partition: int, row: OutputRow, error: KafkaError, epoch: int) -> None:
        aside.append((topic, partition, row[0], type(error), epoch))

    publisher = Publisher(producer, FakeMembership(), set_aside)
    rows = [(f"k{number}".encode(), b"x" * (200 if number in (3, 11) else 10)) for number in range(16)]
    async with asyncio.timeout(5):
        offsets = await publisher.publish("t-stock", rows, 1)
    assert [key for key, _ in producer.written] == [f"k{n}".encode() for n in range(16) if n not in (3, 11)]
    assert aside == [("t-stock", 0, key, MessageSizeTooLargeError, 1) for key in (b"k3", b"k11")]
    assert offsets == {0: 13}
    assert await publisher.publish("t-stock", [rows[3]], 1) == {0: OFFSET_NOT_WRITTEN}


async def test_a_refused_row_becomes_a_dead_letter_and_an_alert_and_neither_of_those_begets_another() -> None:
    publisher = RecordingPublisher()
    refused = RefusedRowHandler(publisher.publish, "t-dead-letters", "t-alerts")
    await refused.set_aside("t-stock", 2, (b"A", b"{}"), MessageSizeTooLargeError(), 1)
    assert [topic for topic, rows in publisher.topics.items() if rows] == ["t-dead-letters", "t-alerts"]
    await refused.set_aside("t-alerts", 0, (b"", b"{}"), MessageSizeTooLargeError(), 1)
    assert {topic: len(rows) for topic, rows in publisher.topics.items()} == {"t-dead-letters": 1, "t-alerts": 1}


async def test_a_topic_that_is_known_again_is_no_longer_reported_as_failing() -> None:
    class Forgetful(SizeLimitedProducer):
        unknown = 1

        async def partitions_for(self, topic: str) -> set[int]:
            if self.unknown:
                self.unknown -= 1
                raise UnknownTopicOrPartitionError
            return {0, 1, 2, 3}

    publisher = Publisher(Forgetful(), FakeMembership())
    rows = [(b"k0", b"x"), (b"k1", b"x")]
    assert 0 not in {partition_of(key, 4) for key, _ in rows}
    await publisher.publish("t-stock", rows, 1)
    assert publisher.failing == {}
