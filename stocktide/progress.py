"""Progress messages: a step that takes longer than a second is announced, a long wait is reported with its reason.

In: a step, or a reason at each poll. Out: lines, at bounded intervals.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Echo = Callable[[str], None]

# A shorter step is not announced; a longer one is repeated, so that it does not look dead.
QUIET_SECONDS = 1.0
REPEAT_SECONDS = 5.0
# A wait reports its reason after this time, then when the reason changes, and now and then while it stays. The second
# bound limits a reason that contains a counter.
REASON_SECONDS = 10.0
CHANGE_SECONDS_MIN = 5.0
STAYS_SECONDS = 30.0
LOOK_SECONDS = 0.5


def silent(_: str) -> None:
    """Drops the lines."""


def echo_on_terminal(line: str) -> None:
    """Writes the lines to standard error where that is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")


@asynccontextmanager
async def announce_if_slow(echo: Echo, step: str) -> AsyncIterator[None]:
    """Announce `step` once the body has lasted a second, then again with its age in seconds."""
    announcer = asyncio.create_task(_announce(echo, step))
    try:
        yield
    finally:
        announcer.cancel()


async def _announce(echo: Echo, step: str) -> None:
    await asyncio.sleep(QUIET_SECONDS)
    echo(step)
    seconds = QUIET_SECONDS
    while True:
        await asyncio.sleep(REPEAT_SECONDS)
        seconds += REPEAT_SECONDS
        echo(f"{step} ({seconds:.0f} s)")


class WaitReporter:
    """Reports one wait: it is called with the newest reason at each poll, and prints it when it is due."""

    def __init__(self, echo: Echo, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._echo = echo
        self._subject = subject
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """End the wait; the next call begins a new one."""
        self._since: float | None = None
        self._last_reason: str | None = None
        self._reported_at = float("-inf")

    def __call__(self, reason: str) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
        interval = STAYS_SECONDS if reason == self._last_reason else CHANGE_SECONDS_MIN
        if now - self._since >= REASON_SECONDS and now - self._reported_at >= interval:
            self._echo(f"waiting for {self._subject}: {reason} ({now - self._since:.0f} s)")
            self._last_reason, self._reported_at = reason, now


async def report_while_waiting(echo: Echo, subject: str, reason: Callable[[], str | None]) -> None:
    """Poll `reason` until cancelled, and report each long wait; None means that nothing is waited for."""
    reporter = WaitReporter(echo, subject)
    while True:
        if (now := reason()) is None:
            reporter.reset()
        else:
            reporter(now)
        await asyncio.sleep(LOOK_SECONDS)
