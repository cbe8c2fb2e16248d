"""A command that waits in vain ends with a reason; one that makes progress is not interrupted."""

from __future__ import annotations

import asyncio
import time

import pytest

from stocktide.ops.rebuild import _watch
from stocktide.ops.stalled import Stalled, StallWatchdog
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.servers import RedisServer

SECONDS = 0.2


async def forever() -> None:
    await asyncio.Event().wait()


async def test_what_does_not_move_is_ended_with_what_was_waited_for() -> None:
    watchdog = StallWatchdog("rebuild", SECONDS)
    ended = asyncio.Event()

    async def work() -> None:
        try:
            watchdog.report("rows", 3, 9)
            await forever()
        finally:
            ended.set()

    began = time.monotonic()
    with pytest.raises(Stalled, match=r"rebuild stopped: it waited for Kafka, and nothing moved .*: rows 3 of 9\)"):
        await watchdog.run("Kafka", work())
    assert ended.is_set()
    assert time.monotonic() - began < 10 * SECONDS


async def test_repeating_the_same_numbers_is_no_progress() -> None:
    watchdog = StallWatchdog("rebuild", SECONDS)

    async def work() -> None:
        while True:
            watchdog.report("keys", 7, 0)
            await asyncio.sleep(SECONDS / 20)

    with pytest.raises(Stalled, match="keys 7"):
        await asyncio.wait_for(watchdog.run("a worker", work()), 20 * SECONDS)


async def test_work_that_moves_may_take_as_long_as_it_likes() -> None:
    watchdog = StallWatchdog("repair", SECONDS)

    async def work() -> str:
        for done in range(20):
            watchdog.report("corrections", done, 20)
            await asyncio.sleep(SECONDS / 5)
        return "done"

    assert await watchdog.run("corrections", work()) == "done"


async def test_work_that_computes_is_not_taken_for_stalled() -> None:
    async def work() -> int:
        end, turns = time.monotonic() + 4 * SECONDS, 0
        while time.monotonic() < end:
            turns += sum(range(1000)) % 2 + 1
            await asyncio.sleep(0)
        return turns

    assert await StallWatchdog("audit", SECONDS).run("sums", work()) > 0


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await StallWatchdog("audit", SECONDS).run("it", work())


async def test_a_rebuild_does_not_wait_for_ever_for_a_stalled_worker(valkey: RedisServer, app_id: str) -> None:
    redis = connect(valkey.url)
    watchdog = StallWatchdog("rebuild", SECONDS)
    try:
        await redis.hset(key_prefix(app_id) + "blessed", "run_id", "none")
        with pytest.raises(Stalled, match="a worker that brings Redis back"):
            await asyncio.wait_for(watchdog.run("a worker that brings Redis back", _watch(redis, app_id, watchdog)), 60)
        watching = asyncio.create_task(watchdog.run("a worker", _watch(redis, app_id, watchdog)))
        await redis.hset(key_prefix(app_id) + "blessed", "run_id", "7")
        await asyncio.wait_for(watching, 10)
    finally:
        await redis.aclose()
