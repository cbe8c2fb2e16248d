"""The common tick of publication: when derived rows and channel updates are written, and how often quantities are.

In: time spent on publishing. Out: ticks, which the derivation and the channel updates share, so that what becomes due
between two ticks is written together; and a factor of the intervals between quantity updates.

Deciding and publishing share a thread or a machine, and orders go first: the ledger enforces the current quantity even
if the published one is some hundred ms old. Changes of mode are never delayed beyond the next tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The least time between two ticks. A write costs a request to Kafka and a fetch of each reader, with one row or many.
TICK_SECONDS_MIN = 0.01
# After a tick whose work took t seconds, the next one begins REST_FACTOR x t after its start: other tasks get the event
# loop, and more states of one key are merged into the newest.
REST_FACTOR = 8.0
# Limits the age of what is published.
TICK_SECONDS_MAX = 0.15
# Above SHARE_MAX of the time the factor of the intervals doubles, below SHARE_MIN it halves.
SHARE_MAX, SHARE_MIN = 0.12, 0.05
# How often the share is measured: long compared with one tick.
WINDOW_SECONDS = 0.25
# 10 times the usual 100 ms: a live board may lag by a second in a flash sale.
STRETCH_MAX = 10.0


class Stopwatch:
    """Sums spans of work. `clock` is in monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = 0.0

    def seconds(self) -> float:
        """The sum of all spans."""
        return self._seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block, which does not wait."""
        begun = self._clock()
        try:
            yield
        finally:
            self._seconds += self._clock() - begun


class PublicationTick:
    """The ticks of one worker. `clock` is in monotonic seconds. `working` measures the work of the ticks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.work = Stopwatch(clock)
        self._begun = float("-inf")
        self._worked_before = 0.0
        self._next: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return at the next tick, together with all others that wait; at once after a quiet time."""
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._wait_for_next(), name="tick")
        await asyncio.shield(self._next)

    async def _wait_for_next(self) -> None:
        wait = self._begun + self.seconds() - self._clock()
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self._begun + self.seconds() - self._clock()  # more work may have been done meanwhile
        self._begun, self._worked_before = self._clock(), self.work.seconds()

    def seconds(self) -> float:
        """The time from the start of the current tick to the next one."""
        worked = self.work.seconds() - self._worked_before
        return min(max(TICK_SECONDS_MIN, REST_FACTOR * worked), TICK_SECONDS_MAX)


class IntervalStretch:
    """The factor of the intervals between quantity updates, 1 without load. `busy_seconds` returns the seconds spent
    on publishing; `clock` is in monotonic seconds."""

    def __init__(self, clock: Callable[[], float], busy_seconds: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._since, self._busy_before = clock(), busy_seconds()
        self._factor = 1.0

    def __call__(self) -> float:
        """The current factor, from 1 to STRETCH_MAX."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= WINDOW_SECONDS:
            busy = self._busy_seconds()
            share = (busy - self._busy_before) / elapsed
            if share > SHARE_MAX:
                self._factor = min(2 * self._factor, STRETCH_MAX)
            elif share < SHARE_MIN:
                self._factor = max(self._factor / 2, 1.0)
            self._since, self._busy_before = now, busy
        return self._factor
