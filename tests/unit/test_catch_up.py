"""When a feed begins, and where: never from less than the client has seen of the same log."""

from __future__ import annotations

import asyncio

import orjson

from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.streams.topics import join_key
from tests.unit.fakes import FakeSource

SECONDS_MAX = 5.0
LOOK_SECONDS = 0.01


class HeartbeatCounter:
    """Signs of life that a waiting client got."""

    def __init__(self) -> None:
        self.count = 0
        self.some = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        if self.count >= 3:
            self.some.set()


def read_until(hub: Hub, offset: int) -> None:
    value = orjson.dumps({"channel": "jd", "sku": "A", "quantity": 1, "version": offset + 1})
    hub.add([(0, offset, join_key("jd", "A").encode(), value)])


async def waits(
    catch_up: CatchUp, seen: OffsetVector | None
) -> tuple[asyncio.Task[OffsetVector | None], HeartbeatCounter]:
    """Someone who is being kept waiting."""
    beats = HeartbeatCounter()
    task = asyncio.create_task(catch_up.begin(seen, beats))
    await asyncio.wait_for(beats.some.wait(), SECONDS_MAX)
    assert not task.done()
    return task, beats


async def test_nobody_is_let_in_before_everything_was_read_that_was_there() -> None:
    hub, source = Hub(1), FakeSource(complete=False, ends=(5,))
    task, _ = await waits(CatchUp(hub, source, LOOK_SECONDS), None)
    source.complete.set()
    assert await asyncio.wait_for(task, SECONDS_MAX) is None


async def test_whoever_has_seen_more_than_this_process_waits_until_it_has_read_as_much() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    read_until(hub, 1)
    task, _ = await waits(CatchUp(hub, source, LOOK_SECONDS), (4,))
    read_until(hub, 3)
    assert await asyncio.wait_for(task, SECONDS_MAX) == (4,)


async def test_whoever_names_a_place_beyond_the_topics_end_is_given_all_there_is() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    read_until(hub, 4)
    catch_up = CatchUp(hub, source, LOOK_SECONDS)
    assert await asyncio.wait_for(catch_up.begin((900,), HeartbeatCounter()), SECONDS_MAX) is None
    assert source.asked == 1


async def test_as_long_as_kafka_does_not_say_where_the_topic_ends_a_client_waits() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    source.away = True
    task, _ = await waits(CatchUp(hub, source, LOOK_SECONDS), (5,))
    source.away = False
    read_until(hub, 4)
    assert await asyncio.wait_for(task, SECONDS_MAX) == (5,)


async def test_nobody_waits_for_a_hub_that_closes() -> None:
    for source, seen in ((FakeSource(complete=False), None), (FakeSource(ends=(5,)), (4,))):
        hub = Hub(1)
        task, _ = await waits(CatchUp(hub, source, LOOK_SECONDS), seen)
        hub.close()
        assert await asyncio.wait_for(task, SECONDS_MAX) is None
