"""A copy of a compacted topic on a real Kafka: the newest row of each key, up to the end of the topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer

from stocktide.api.stale import topic_copy
from stocktide.api.stale.topic_copy import CopyTooLarge, TopicCopy
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.read_topic import open_consumer
from stocktide.streams.topics import STOCK
from tests.harness.servers import KafkaServer


class Topic:
    """The topic `stock` of an app of its own, and a copy of it."""

    def __init__(self, producer: AIOKafkaProducer, name: str, copy: TopicCopy) -> None:
        self._producer = producer
        self._name = name
        self.copy = copy

    async def write(self, **rows: str | None) -> None:
        for key, row in rows.items():
            value = None if row is None else row.encode()
            await self._producer.send_and_wait(self._name, value, key=key.encode())

    async def names(self, prefix: str = "", after: str = "", most: int = 10) -> tuple[list[str], bool]:
        names, more = await self.copy.names(prefix, after, most)
        return list(names), more


@pytest.fixture
async def topic(kafka: KafkaServer, app_id: str) -> AsyncIterator[Topic]:
    await ensure_topics(kafka.address, app_id, 3)
    name = STOCK.full_name(app_id)
    copy = TopicCopy(partial(open_consumer, kafka.address, name))
    async with AIOKafkaProducer(bootstrap_servers=kafka.address) as producer:
        yield Topic(producer, name, copy)
    await copy.close()


async def test_a_refresh_reads_what_came_since_and_the_newest_row_of_a_key_counts(topic: Topic) -> None:
    await topic.write(a="a1", b="b1", c="c1")
    await topic.copy.refresh()
    assert [topic.copy.get(name) for name in "abcd"] == [b"a1", b"b1", b"c1", None]
    await topic.write(b="b2, longer", d="d1", a=None)
    assert topic.copy.get("b") == b"b1", "nothing is read between refreshes"
    await asyncio.gather(*(topic.copy.refresh() for _ in range(5)))
    assert [topic.copy.get(name) for name in "abcd"] == [None, b"b2, longer", b"c1", b"d1"]
    assert await topic.names() == (["b", "c", "d"], False)


async def test_names_are_paged_in_order_and_by_prefix(topic: Topic) -> None:
    await topic.write(**{name: name for name in ("x2", "x1", "y", "x10", "w", "x")})
    await topic.copy.refresh()
    assert await topic.names(most=2) == (["w", "x"], True)
    assert await topic.names(after="x", most=3) == (["x1", "x10", "x2"], True)
    assert await topic.names(after="x2") == (["y"], False)
    assert await topic.names("x1") == (["x1", "x10"], False)
    assert await topic.names("x", after="x1", most=2) == (["x10", "x2"], False)
    assert await topic.names("z") == ([], False)


async def test_a_closed_copy_holds_nothing_and_begins_again(topic: Topic) -> None:
    await topic.write(a="a1")
    await topic.copy.refresh()
    await topic.copy.close()
    assert topic.copy.get("a") is None
    await topic.copy.refresh()
    assert topic.copy.get("a") == b"a1"


async def test_a_topic_that_is_too_large_is_refused_and_its_rows_are_let_go(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_copy, "KEYS_MAX", 2)
    await topic.write(a="a1", b="b1", c="c1")
    for _ in range(2):
        with pytest.raises(CopyTooLarge):
            await topic.copy.refresh()
        assert topic.copy.get("a") is None
