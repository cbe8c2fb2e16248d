"""How much of the worker's time publication may take: under load channels hear of quantities less often.

In: spans of work. Out: a factor of the intervals between updates of a quantity, 1 while there is time enough. Decisions
and publication share one thread; a quantity that is some hundred ms old is still enforced as it is, an order that waits
is not served. Switches of mode are never held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# Above this share of the time the factor doubles, below the lower one it halves.
SHARE_MAX, SHARE_MIN = 0.12, 0.05
# How often it is looked at: long against one write, short against a person's patience.
WINDOW_SECONDS = 0.25
# 10 times the usual 100 ms: a second is what a live board may lag in a flash sale.
STRETCH_MAX = 10.0


class Stopwatch:
    """Adds up spans of work. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = 0.0

    def seconds(self) -> float:
        """All spans so far."""
        return self._seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the block ends."""
        begun = self._clock()
        try:
            yield
        finally:
            self._seconds += self._clock() - begun


class PublicationThrottle:
    """Measures the share of publication. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._watch = Stopwatch(clock)
        self._worked_before = 0.0
        self._stretch = 1.0

    def stretch(self) -> float:
        """The factor now, from 1 to STRETCH_MAX."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= WINDOW_SECONDS:
            worked = self._watch.seconds()
            share = (worked - self._worked_before) / elapsed
            if share > SHARE_MAX:
                self._stretch = min(2 * self._stretch, STRETCH_MAX)
            elif share < SHARE_MIN:
                self._stretch = max(self._stretch / 2, 1.0)
            self._since, self._worked_before = now, worked
        return self._stretch

    def working(self) -> AbstractContextManager[None]:
        """Count the time until the block ends as publication."""
        return self._watch.running()
