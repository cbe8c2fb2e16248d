"""Progress: a step that takes longer than a second says so, and goes on saying so; a long one says why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Echo = Callable[[str], None]

# A shorter step needs no word; a longer one is repeated so that nobody takes it for dead.
QUIET_SECONDS = 1.0
REPEAT_SECONDS = 5.0
# From here on a wait tells its reason: again when the reason changes, though one that counts not with each number, and
# now and then while it stays.
REASON_SECONDS = 10.0
CHANGE_SECONDS_MIN = 5.0
STAYS_SECONDS = 30.0
LOOK_SECONDS = 0.5


def silent(_: str) -> None:
    """The progress of a caller that wants none."""


@asynccontextmanager
async def announce_if_slow(progress: Echo, what: str) -> AsyncIterator[None]:
    """Say `what` once the body has lasted a second, then again with its age in seconds."""
    talker = asyncio.create_task(_talk(progress, what))
    try:
        yield
    finally:
        talker.cancel()


async def _talk(progress: Echo, what: str) -> None:
    await asyncio.sleep(QUIET_SECONDS)
    progress(what)
    seconds = QUIET_SECONDS
    while True:
        await asyncio.sleep(REPEAT_SECONDS)
        seconds += REPEAT_SECONDS
        progress(f"{what} ({seconds:.0f} s)")


class WaitReporter:
    """One wait for something: it is called again and again with the newest reason, and tells it once that is due."""

    def __init__(self, progress: Echo, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._what = what
        self._clock = clock
        self._since: float | None = None
        self._told: str | None = None
        self._told_at = float("-inf")

    def __call__(self, reason: str) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
        pause = STAYS_SECONDS if reason == self._told else CHANGE_SECONDS_MIN
        if now - self._since >= REASON_SECONDS and now - self._told_at >= pause:
            self._progress(f"waiting for {self._what}: {reason} ({now - self._since:.0f} s)")
            self._told, self._told_at = reason, now

    def over(self) -> None:
        """What was waited for is there; the next call begins a new wait."""
        self._since, self._told, self._told_at = None, None, float("-inf")


async def report_while_waiting(progress: Echo, what: str, reason: Callable[[], str | None]) -> None:
    """Look every moment until cancelled, and tell of each long wait why it lasts; `reason` gives None where there is
    nothing to wait for."""
    waiting = WaitReporter(progress, what)
    while True:
        if (now := reason()) is None:
            waiting.over()
        else:
            waiting(now)
        await asyncio.sleep(LOOK_SECONDS)
