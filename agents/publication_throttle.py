"""The throttle of publication: under load, quantities are published less often.

In: time spent publishing. Out: a factor of the intervals between quantity updates, 1 without load. Decisions and
publication share one thread, and orders go first: the ledger enforces the current quantity even if the published one is
some hundred ms old. Changes of mode are never delayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# Above SHARE_MAX of the time the factor doubles, below SHARE_MIN it halves.
SHARE_MAX, SHARE_MIN = 0.12, 0.05
# How often the share is measured: long compared with one write.
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
        """Measure the block."""
        begun = self._clock()
        try:
            yield
        finally:
            self._seconds += self._clock() - begun


class PublicationThrottle:
    """Measures the share of publication in the time. `clock` is in monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._stopwatch = Stopwatch(clock)
        self._busy_seconds_before = 0.0
        self._stretch = 1.0

    def stretch(self) -> float:
        """The current factor, from 1 to STRETCH_MAX."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= WINDOW_SECONDS:
            busy_seconds = self._stopwatch.seconds()
            share = (busy_seconds - self._busy_seconds_before) / elapsed
            if share > SHARE_MAX:
                self._stretch = min(2 * self._stretch, STRETCH_MAX)
            elif share < SHARE_MIN:
                self._stretch = max(self._stretch / 2, 1.0)
            self._since, self._busy_seconds_before = now, busy_seconds
        return self._stretch

    def working(self) -> AbstractContextManager[None]:
        """Measure the block as publication."""
        return self._stopwatch.running()
