"""The drain of an API process: not ready, serving on, and then its feeds end evenly."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from stocktide.api.feeds.close_codes import FeedEnded
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.handlers.health import Readiness
from stocktide.api_drain import Drain
from stocktide.streams.contract.documents import Status

FEEDS = 100


class Ending:
    """A subscription that notes when it is ended."""

    def __init__(self, ended: list[float]) -> None:
        self._ended = ended

    def end(self, reason: FeedEnded) -> None:
        assert reason.name == "shutting_down"
        self._ended.append(asyncio.get_running_loop().time())


@contextmanager
def open_feeds(ended: list[float]) -> Iterator[OpenFeeds]:
    feeds = OpenFeeds()
    with ExitStack() as stack:
        for _ in range(FEEDS):
            stack.enter_context(feeds.opened({})).attach(Ending(ended))  # type: ignore[arg-type]
        yield feeds


async def ready_process(reported: list[Status]) -> Readiness:
    readiness = Readiness({}, reported.append)
    await readiness.check()
    return readiness


async def test_a_process_that_drains_is_not_ready_and_ends_its_feeds_evenly_in_the_second_half() -> None:
    reported: list[Status] = []
    ended: list[float] = []
    readiness = await ready_process(reported)
    began = asyncio.get_running_loop().time()
    with open_feeds(ended) as feeds:
        draining = asyncio.create_task(Drain(1.0, readiness, feeds).run())
        await asyncio.sleep(0.1)
        stopping = Status(False, {"stop": "the process stops"})
        assert (reported[-1], await readiness.check()) == (stopping, stopping)
        assert not ended
        assert readiness.trouble() is None  # the log would say that it waits for itself
        await draining
    seconds = sorted(at - began for at in ended)
    assert len(seconds) == FEEDS
    assert seconds[0] > 0.4
    assert seconds[FEEDS // 2] - seconds[0] > 0.1


async def test_without_time_to_drain_only_readiness_changes() -> None:
    reported: list[Status] = []
    ended: list[float] = []
    with open_feeds(ended) as feeds:
        await Drain(0, await ready_process(reported), feeds).run()
    assert not reported[-1].ready
    assert not ended  # they end with the server, all at once


async def test_a_second_signal_ends_the_drain_at_once() -> None:
    reported: list[Status] = []
    draining = asyncio.create_task(Drain(600, await ready_process(reported), OpenFeeds()).run())
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(draining, 5)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
