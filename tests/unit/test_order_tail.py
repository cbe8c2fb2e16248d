"""The reader of the feeds of orders: when it reads, and what happens when Kafka is away or has lost its offsets."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.order_sse import OrderFeedHandler
from stocktide.api.feeds.order_tail import OrderTail
from stocktide.api.feeds.orders import OrderHub
from stocktide.streams.contract.documents import Status
from tests.harness.eventually import eventually
from tests.unit.fakes import FakeRecord
from tests.unit.test_api_server import serve

SECONDS_MAX = 5.0


async def read_epoch() -> str:
    """The topic stays the same."""
    return ""


class FakeKafka:
    """A topic of one partition, and the clients that were made for it."""

    def __init__(self, end: int = 5) -> None:
        self.end = end
        self.records: list[FakeRecord] = []
        self.failure: Exception | None = None
        self.is_away = False
        self.clients: list[FakeConsumer] = []

    def make(self) -> Any:
        self.clients.append(FakeConsumer(self))
        return self.clients[-1]

    @property
    def running(self) -> int:
        return sum(client.is_running for client in self.clients)


class FakeConsumer:
    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.is_running = False
        self.is_stopped = False
        self.at: int | None = None

    async def start(self) -> None:
        if self._kafka.is_away:
            raise KafkaConnectionError("nobody is there")
        self.is_running = True

    async def stop(self) -> None:
        self.is_running = False
        self.is_stopped = True

    def assign(self, partitions: Any) -> None:
        pass

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at = offset

    def highwater(self, partition: TopicPartition) -> int:
        return self._kafka.end

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self._kafka.end)

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[FakeRecord]]:
        await asyncio.sleep(0.001)
        if self._kafka.failure is not None:
            failure, self._kafka.failure = self._kafka.failure, None
            raise failure
        assert self.at is not None
        found = [record for record in self._kafka.records if record.offset >= self.at]
        if not found:
            return {}
        self.at = found[-1].offset + 1
        return {TopicPartition("reservations", 0): found}


def order(offset: int) -> FakeRecord:
    row = b'{"order_id":"O%d","channel":"tmall","sequence":1,"batch":1}' % offset
    return FakeRecord(offset, row)


async def test_nothing_is_read_without_a_user_and_one_reader_serves_all() -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch, unused_seconds=0.05)
    assert kafka.clients == []
    await asyncio.gather(*(tail.acquire() for _ in range(10)))
    assert (kafka.running, hub.position) == (1, (5,))
    kafka.records.append(order(5))
    assert await hub.reached((6,), SECONDS_MAX)
    for _ in range(10):
        tail.release()
    beginnings = hub.beginnings
    await tail.acquire()  # within the time in which a client may return
    await asyncio.sleep(0.1)
    assert (kafka.running, hub.covers((5,)), hub.beginnings) == (1, True, beginnings)
    tail.release()
    await eventually(lambda: kafka.running == 0, SECONDS_MAX)
    assert (len(kafka.clients), hub.bytes, hub.covers((5,))) == (1, 0, False)


async def test_a_user_who_comes_while_the_reader_stops_gets_a_new_one() -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch, unused_seconds=0)
    for turns in range(20):
        await tail.acquire()
        await asyncio.sleep(0.01)
        assert tail.source is not None
        assert kafka.running == 1
        tail.release()
        for _ in range(turns % 4):  # the timer fires, the stop begins
            await asyncio.sleep(0)
    await tail.close()
    assert kafka.running == 0


async def test_a_reader_that_cannot_start_is_stopped_and_tried_again_for_the_next_user() -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch)
    kafka.is_away = True
    for _ in range(2):
        with pytest.raises(KafkaConnectionError):
            await tail.acquire()
    assert (tail.users, kafka.running, tail.source) == (0, 0, None)
    assert all(client.is_stopped for client in kafka.clients)
    kafka.is_away = False
    await tail.acquire()
    assert kafka.running == 1
    await tail.close()


async def test_a_topic_that_lost_its_offsets_is_read_from_its_end_anew() -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch)
    await tail.acquire()
    beginning = hub.beginnings
    kafka.end, kafka.failure = 2, OffsetOutOfRangeError({TopicPartition("reservations", 0): 5})
    await eventually(lambda: hub.beginnings > beginning, SECONDS_MAX)
    assert hub.position == (2,)
    kafka.records.append(order(2))
    assert await hub.reached((3,), SECONDS_MAX)
    await tail.close()


async def test_a_gap_in_the_offsets_counts_until_the_end_is_reached() -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch)
    await tail.acquire()
    kafka.end = 12
    kafka.records.append(order(7))
    assert await hub.reached((8,), SECONDS_MAX)
    await asyncio.sleep(0.01)
    assert hub.gaps == {0}
    kafka.records += [order(offset) for offset in range(8, 12)]
    await eventually(lambda: not hub.gaps, SECONDS_MAX)
    assert hub.position == (12,)
    await tail.close()


@pytest.mark.parametrize("status", [Status(True, {}), Status(False, {"kafka": "Kafka does not answer: no broker"})])
async def test_a_subscriber_is_told_that_kafka_is_away_and_may_come_again(status: Status) -> None:
    kafka, hub = FakeKafka(), OrderHub(1)
    kafka.is_away = True
    tail = OrderTail(kafka.make, "reservations", hub, read_epoch)
    handler = OrderFeedHandler(hub, tail, None, lambda: status, OpenFeeds())  # type: ignore[arg-type]
    server = await serve("/{channel}", handler.feed)
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/tmall")) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["code"], "Retry-After" in response.headers) == (503, "unavailable", True)
    assert "Kafka does not answer" in problem["detail"]
    await server.close()
    assert tail.users == 0
    await tail.close()
