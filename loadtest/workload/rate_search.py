"""The search for the highest rate that keeps a goal: which rate to try next.

In: the highest rate to try, how many steps. Out: rates, one after the other, each after it is known how the last went.
"""

from __future__ import annotations

# The first step: so far below the highest that a system which stands anything stands it.
FIRST_SHARE = 1 / 8


class RateSearch:
    """Doubles until a rate fails, then halves the gap between the highest that went well and the lowest that failed."""

    def __init__(self, highest: float, steps: int) -> None:
        self._highest = highest
        self._left = steps
        self.good = 0.0
        self.bad: float | None = None

    def next(self) -> float | None:
        """The rate to try; None when it is over."""
        if not self._left or self.good >= self._highest:
            return None
        self._left -= 1
        if self.bad is not None:
            return (self.good + self.bad) / 2
        return min(self._highest, 2 * self.good) if self.good else self._highest * FIRST_SHARE

    def went(self, rate: float, well: bool) -> None:
        """How it went."""
        if well:
            self.good = max(self.good, rate)
        else:
            self.bad = rate if self.bad is None else min(self.bad, rate)
