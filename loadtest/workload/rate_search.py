"""The search for the highest rate that keeps a goal.

In: the highest rate to try, the number of steps, the outcome of each step. Out: the rate of the next step.
"""

from __future__ import annotations

# The first step: low enough that a working system keeps the goal.
FIRST_SHARE = 1 / 8


class RateSearch:
    """Doubles the rate until one misses the goal, then halves the gap between highest kept and lowest missed."""

    def __init__(self, rate_max: float, steps: int) -> None:
        self._rate_max = rate_max
        self._steps_left = steps
        self.highest_kept = 0.0
        self.lowest_missed: float | None = None

    def next_rate(self) -> float | None:
        """The rate to try; None when the search is over."""
        if not self._steps_left or self.highest_kept >= self._rate_max:
            return None
        self._steps_left -= 1
        if self.lowest_missed is not None:
            return (self.highest_kept + self.lowest_missed) / 2
        return min(self._rate_max, 2 * self.highest_kept) if self.highest_kept else self._rate_max * FIRST_SHARE

    def report(self, rate: float, kept: bool) -> None:
        """Report whether a rate kept the goal."""
        if kept:
            self.highest_kept = max(self.highest_kept, rate)
        else:
            self.lowest_missed = rate if self.lowest_missed is None else min(self.lowest_missed, rate)
