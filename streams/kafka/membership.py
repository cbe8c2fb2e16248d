"""The fence of a worker's output: whether this process may still produce for its partitions.

In: heartbeats that the group's coordinator answered, assignments and revocations. Out: permission to produce, or
`MembershipLost`. A worker that resumes late must not write rows over those of its successor (rule R9):
it produces only while an answered heartbeat is younger than half the session timeout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from stocktide.errors import StocktideError

_POLL_SECONDS = 0.05


class MembershipLost(StocktideError):
    """The partitions of this epoch may belong to another worker: drop the work, it is delivered again."""


class Membership:
    """The state of the group membership. Each assignment begins an epoch. `confirm` may be called from the consumer's
    thread, all else from the loop."""

    def __init__(self, session_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_seconds = session_seconds / 2
        self._clock = clock
        self._confirmed_at = float("-inf")
        self._held = False
        self.epoch = 0

    def begin(self) -> None:
        """Begin an epoch: partitions were assigned."""
        self.epoch += 1
        self._held = True
        self._confirmed_at = self._clock()

    def end(self) -> None:
        """End the epoch: partitions were revoked, or will be."""
        self.epoch += 1
        self._held = False

    def confirm(self, at: float) -> None:
        """Record that the coordinator answered a heartbeat that was sent `at` (monotonic seconds)."""
        self._confirmed_at = max(self._confirmed_at, at)

    @property
    def held(self) -> bool:
        """Whether partitions are assigned now."""
        return self._held

    def holds(self, epoch: int) -> bool:
        """Whether `epoch` is the current one and not ended."""
        return self._held and epoch == self.epoch

    def is_fresh(self) -> bool:
        """Whether the last answered heartbeat is younger than half the session timeout."""
        return self._clock() - self._confirmed_at < self._fresh_seconds

    async def wait_until_may_produce(self, epoch: int) -> None:
        """Wait until a heartbeat allows work of `epoch` to be produced. Raises MembershipLost."""
        while True:
            if not self.holds(epoch):
                raise MembershipLost
            if self.is_fresh():
                return
            await asyncio.sleep(_POLL_SECONDS)


def watch_heartbeats(coordinator: Any, membership: Membership) -> None:
    """Report each answered heartbeat of an aiokafka coordinator to `membership`."""
    do_heartbeat = coordinator._do_heartbeat

    async def do_heartbeat_and_confirm() -> bool:
        sent_at = time.monotonic()
        answered: bool = await do_heartbeat()
        if answered:
            # The broker counts from the arrival of the request: the time of sending is on the safe side.
            membership.confirm(sent_at)
        return answered

    coordinator._do_heartbeat = do_heartbeat_and_confirm
