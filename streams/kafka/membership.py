"""Whether this process may still write what its partitions entitle it to write.

In: heartbeats that the group's coordinator answered, assignments and revocations. Out: leave to produce, or
`MembershipLost`. A worker that was stopped and woke up late must not write rows over those of its successor (design,
section 9, R9): it may produce only while an answered heartbeat is younger than half the session time-out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from stocktide.errors import StocktideError

# How often one who waits for the next heartbeat looks whether it was answered.
_LOOK_AGAIN_SECONDS = 0.05


class MembershipLost(StocktideError):
    """The partitions of this epoch may belong to another worker: drop the work, it is delivered anew."""


class Membership:
    """One epoch an assignment. `confirm` may be called from the consumer's thread, all else from the loop."""

    def __init__(self, session_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_seconds = session_seconds / 2
        self._clock = clock
        self._confirmed_at = float("-inf")
        self._held = False
        self.epoch = 0

    def begin(self) -> None:
        """Partitions were assigned: a new epoch."""
        self.epoch += 1
        self._held = True
        self._confirmed_at = self._clock()

    def end(self) -> None:
        """Partitions were revoked, or will be."""
        self.epoch += 1
        self._held = False

    def confirm(self, at: float) -> None:
        """The coordinator answered a heartbeat that was sent `at` (monotonic seconds)."""
        self._confirmed_at = max(self._confirmed_at, at)

    @property
    def held(self) -> bool:
        """Whether partitions are assigned now."""
        return self._held

    def holds(self, epoch: int) -> bool:
        """Whether work of that epoch still counts."""
        return self._held and epoch == self.epoch

    def is_fresh(self) -> bool:
        """Whether the last answered heartbeat is younger than half the session time-out."""
        return self._clock() - self._confirmed_at < self._fresh_seconds

    async def wait_until_may_produce(self, epoch: int) -> None:
        """Return when work of `epoch` may be produced; waits for a heartbeat. Raises MembershipLost."""
        while True:
            if not self.holds(epoch):
                raise MembershipLost
            if self.is_fresh():
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
