"""When a feed begins, and from which position: never from less than the client has seen."""

from __future__ import annotations

import asyncio

import orjson

from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.streams.topics import join_key
from tests.unit.fakes import FakeRecord, FakeSource

SECONDS_MAX = 5.0
LOOK_SECONDS = 0.01


class HeartbeatCounter:
    """Counts the heartbeats of a waiting client."""

    def __init__(self) -> None:
        self.count = 0
        self.some = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        if self.count >= 3:
            self.some.set()


def read_until(hub: Hub, offset: int) -> None:
    value = orjson.dumps({"channel": "jd", "sku": "A", "quantity": 1, "version": offset + 1})
    hub.add(0, [FakeRecord(offset, value, join_key("jd", "A").encode())])


async def wait_for_some_heartbeats(
    catch_up: CatchUp, seen: OffsetVector | None
) -> tuple[asyncio.Task[OffsetVector | None], HeartbeatCounter]:
    """A client that waits: its task, after some heartbeats."""
    heartbeats = HeartbeatCounter()
    task = asyncio.create_task(catch_up.begin(seen, heartbeats))
    await asyncio.wait_for(heartbeats.some.wait(), SECONDS_MAX)
    assert not task.done()
    return task, heartbeats


async def test_no_feed_begins_before_the_topic_was_read_to_its_end() -> None:
    hub, source = Hub(1), FakeSource(complete=False, ends=(5,))
    task, _ = await wait_for_some_heartbeats(CatchUp(hub, source, LOOK_SECONDS), None)
    source.complete.set()
    assert await asyncio.wait_for(task, SECONDS_MAX) is None


async def test_a_client_that_is_ahead_of_this_process_waits_for_it() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    read_until(hub, 1)
    task, _ = await wait_for_some_heartbeats(CatchUp(hub, source, LOOK_SECONDS), (4,))
    read_until(hub, 3)
    assert await asyncio.wait_for(task, SECONDS_MAX) == (4,)


async def test_a_position_beyond_the_topics_end_brings_everything() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    read_until(hub, 4)
    catch_up = CatchUp(hub, source, LOOK_SECONDS)
    assert await asyncio.wait_for(catch_up.begin((900,), HeartbeatCounter()), SECONDS_MAX) is None
    assert source.asked == 1


async def test_a_client_waits_while_the_end_of_the_topic_is_unknown() -> None:
    hub, source = Hub(1), FakeSource(ends=(5,))
    source.is_unreachable = True
    task, _ = await wait_for_some_heartbeats(CatchUp(hub, source, LOOK_SECONDS), (5,))
    source.is_unreachable = False
    read_until(hub, 4)
    assert await asyncio.wait_for(task, SECONDS_MAX) == (5,)


async def test_a_hub_that_closes_ends_the_wait() -> None:
    for source, seen in ((FakeSource(complete=False), None), (FakeSource(ends=(5,)), (4,))):
        hub = Hub(1)
        task, _ = await wait_for_some_heartbeats(CatchUp(hub, source, LOOK_SECONDS), seen)
        hub.close()
        assert await asyncio.wait_for(task, SECONDS_MAX) is None
