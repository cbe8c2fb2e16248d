"""What a client missed, read from a topic that was compacted, with errors of Kafka on the way."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from stocktide.api.feeds import order_history
from stocktide.api.feeds.offset_vector import EventIds, OffsetVector
from stocktide.api.feeds.order_history import HistoryReading, OrderHistory
from tests.unit.fakes import FakeRecord

SECONDS_MAX = 5.0


class FakeTopic:
    """Three partitions, of which compaction removed some rows, the last ones too."""

    def __init__(self, dice: random.Random) -> None:
        self.ends = tuple(dice.randint(0, 60) for _ in range(3))
        self.log = [
            [
                FakeRecord(offset, _row(f"O{partition}-{offset}", dice.choice(("tmall", "jd"))))
                for offset in range(end)
                if dice.random() < 0.7
            ]
            for partition, end in enumerate(self.ends)
        ]
        self.failing = 0
        self.open = 0
        self.open_max = 0

    def wanted(self, channel: str, since: OffsetVector, until: OffsetVector) -> list[str]:
        rows = [
            orjson.loads(record.value or b"")
            for partition, log in enumerate(self.log)
            for record in log
            if since[partition] <= record.offset < until[partition]
        ]
        return sorted(row["order_id"] for row in rows if row["channel"] == channel)

    def make(self) -> Any:
        return FakeHistoryConsumer(self)


class FakeHistoryConsumer:
    def __init__(self, topic: FakeTopic) -> None:
        self._topic = topic
        self._at: dict[int, int] = {}

    async def start(self) -> None:
        self._topic.open += 1
        self._topic.open_max = max(self._topic.open, self._topic.open_max)

    async def stop(self) -> None:
        self._topic.open -= 1

    def assign(self, partitions: Any) -> None:
        self._at = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at[partition.partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        pass

    async def position(self, partition: TopicPartition) -> int:
        return self._at[partition.partition]

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, list[FakeRecord]]:
        await asyncio.sleep(0)
        if self._topic.failing:
            self._topic.failing -= 1
            if self._topic.failing % 2:
                raise KafkaConnectionError("nobody is there")
        partition = partitions[0]
        number = partition.partition
        log = [record for record in self._topic.log[number] if record.offset >= self._at[number]][:4]
        self._at[number] = log[-1].offset + 1 if len(log) == 4 else self._topic.ends[number]
        return {partition: log} if log else {}


def _row(order_id: str, channel: str) -> bytes:
    return orjson.dumps({"order_id": order_id, "channel": channel, "sequence": 1, "batch": 1, "record": {}})


@pytest.mark.parametrize("seed", range(20))
async def test_everything_missed_is_read_once_and_each_id_resumes_there(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_history, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(order_history, "WRITE_BYTES_MAX", 300)
    dice = random.Random(seed)
    topic = FakeTopic(dice)
    topic.failing = 6
    since = tuple(dice.randint(0, end) for end in topic.ends)
    until = tuple(dice.randint(least, end) for least, end in zip(since, topic.ends, strict=True))
    sent = bytearray()

    async def send(chunk: bytes) -> None:
        sent.extend(chunk)

    history = OrderHistory(topic.make, "reservations")
    reading = HistoryReading("tmall", since, until, send, lambda: False, EventIds())
    assert await asyncio.wait_for(history.read(reading), SECONDS_MAX) == until
    ids = re.findall(rb'"order_id":"(O[0-9]-[0-9]+)"', sent)
    assert sorted(order_id.decode() for order_id in ids) == topic.wanted("tmall", since, until)
    for index, text in enumerate(re.findall(rb"id: ([0-9-]+)\n", sent), 1):
        here = tuple(map(int, text.split(b"-")))
        got = [order_id.decode() for order_id in ids[:index]]
        assert sorted(got + topic.wanted("tmall", here, until)) == topic.wanted("tmall", since, until)
    assert (history.readers, topic.open) == (0, 0)


async def test_few_read_at_a_time_and_the_others_get_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_history, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(order_history, "TURN_SECONDS", 0.01)
    topic = FakeTopic(random.Random(1))
    history = OrderHistory(topic.make, "reservations")
    gate = asyncio.Event()
    chunks: list[list[bytes]] = [[] for _ in range(10)]

    async def read(number: int) -> OffsetVector:
        async def send(chunk: bytes) -> None:
            chunks[number].append(chunk)
            if not chunk.startswith(b":"):
                await gate.wait()

        return await history.read(HistoryReading("tmall", (0, 0, 0), topic.ends, send, lambda: False, EventIds()))

    tasks = [asyncio.create_task(read(number)) for number in range(10)]
    await asyncio.sleep(0.2)
    assert (history.readers, topic.open_max) == (10, order_history.READERS_MAX)
    assert sum(any(chunk.startswith(b":") for chunk in each) for each in chunks) == 10 - order_history.READERS_MAX
    gate.set()
    assert await asyncio.gather(*tasks) == [topic.ends] * 10
    assert topic.open_max == order_history.READERS_MAX


async def test_a_reading_that_is_not_wanted_any_more_ends() -> None:
    topic = FakeTopic(random.Random(1))
    history = OrderHistory(topic.make, "reservations")

    async def send(chunk: bytes) -> None:
        raise AssertionError("nothing is to be sent")

    reading = HistoryReading("tmall", (0, 0, 0), topic.ends, send, lambda: True, EventIds())
    assert await asyncio.wait_for(history.read(reading), SECONDS_MAX) == (0, 0, 0)
    assert topic.open == 0
