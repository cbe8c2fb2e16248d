"""Ticks share what becomes due between them, and publication slows down under load and recovers."""

from __future__ import annotations

import asyncio
import time

import pytest

from stocktide.agents.publication_tick import (
    REST_FACTOR,
    STRETCH_MAX,
    TICK_SECONDS_MAX,
    TICK_SECONDS_MIN,
    WINDOW_SECONDS,
    IntervalStretch,
    PublicationTick,
    Stopwatch,
)
from tests.unit.fakes import FakeClock


@pytest.fixture
def long_tick(monkeypatch: pytest.MonkeyPatch) -> float:
    """A least time between ticks that a busy machine does not reach by itself, s."""
    seconds = 1.0
    monkeypatch.setattr("stocktide.agents.publication_tick.TICK_SECONDS_MIN", seconds)
    monkeypatch.setattr("stocktide.agents.publication_tick.TICK_SECONDS_MAX", 2 * seconds)
    return seconds


def work(stopwatch: Stopwatch, clock: FakeClock, seconds: float) -> None:
    """Work for so long."""
    with stopwatch.running():
        clock.now += seconds


async def test_the_first_event_after_a_quiet_time_goes_at_once(long_tick: float) -> None:
    clock = FakeClock()
    tick = PublicationTick(clock)
    await tick.wait()
    clock.now += 2 * long_tick
    began = time.monotonic()
    await tick.wait()
    assert time.monotonic() - began < long_tick / 2


async def test_all_that_wait_go_together_at_the_next_tick(long_tick: float) -> None:
    tick = PublicationTick(time.monotonic)
    await tick.wait()
    began, went = time.monotonic(), []

    async def wait() -> None:
        await tick.wait()
        went.append(time.monotonic() - began)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait())
            await asyncio.sleep(long_tick / 10)
    assert min(went) >= long_tick * 0.9 and max(went) - min(went) < long_tick / 2


async def test_a_cancelled_waiter_does_not_stop_the_others() -> None:
    tick = PublicationTick(time.monotonic)
    await tick.wait()
    first, second = asyncio.create_task(tick.wait()), asyncio.create_task(tick.wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 1.0)


async def test_a_tick_lasts_longer_the_more_work_it_had_up_to_a_limit() -> None:
    clock = FakeClock()
    tick = PublicationTick(clock)
    await tick.wait()
    assert tick.seconds() == TICK_SECONDS_MIN
    work(tick.work, clock, 0.01)
    assert abs(tick.seconds() - 0.01 * REST_FACTOR) < 1e-9
    work(tick.work, clock, 1.0)
    assert tick.seconds() == TICK_SECONDS_MAX
    clock.now += TICK_SECONDS_MAX
    await tick.wait()
    assert tick.seconds() == TICK_SECONDS_MIN, "the next one counts from its own start"


class StretchHarness:
    """A stretch whose work the test does."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stopwatch = Stopwatch(self.clock)
        self.stretch = IntervalStretch(self.clock, self.stopwatch.seconds)

    def spend(self, share: float) -> float:
        """Spend a share of one window on publication; the factor afterwards."""
        work(self.stopwatch, self.clock, WINDOW_SECONDS * share)
        self.clock.now += WINDOW_SECONDS * (1 - share)
        return self.stretch()


def test_an_idle_worker_publishes_at_the_interval_itself() -> None:
    assert StretchHarness().spend(0.01) == 1.0


def test_a_busy_worker_stretches_intervals_up_to_a_limit_and_back() -> None:
    harness = StretchHarness()
    assert [harness.spend(0.5) for _ in range(6)] == [2.0, 4.0, 8.0, STRETCH_MAX, STRETCH_MAX, STRETCH_MAX]
    assert [harness.spend(0.01) for _ in range(5)] == [5.0, 2.5, 1.25, 1.0, 1.0]


def test_between_the_limits_the_factor_stays() -> None:
    harness = StretchHarness()
    harness.spend(0.5)
    assert harness.spend(0.08) == 2.0
