"""The relay's life: it runs where the shard's journal partition is assigned.

In: assignments. Out: a running relay, or none. A rebalance that leaves the partition here leaves the relay running;
that two workers believe to own it for a moment is harmless, because the journal's terms decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stocktide.tables.recovery.rebuild import RecoveryProgress


class RunningRelay(Protocol):
    """What is needed of the relay."""

    blessed: bool
    term: int
    error: str | None
    stuck: str | None

    @property
    def lag(self) -> int: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def reading(self) -> int | None: ...
    @property
    def recovery(self) -> RecoveryProgress | None: ...
    def start(self) -> None: ...
    async def stop(self) -> None: ...


class RelayAssignment:
    """One shard on this worker. `make_relay` is given the question whether the shard is still assigned."""

    def __init__(self, make_relay: Callable[[Callable[[], bool]], RunningRelay]) -> None:
        self._make_relay = make_relay
        self._assigned = False
        self.relay: RunningRelay | None = None

    async def on_assigned(self, mine: bool) -> None:
        """The partitions were assigned anew; the journal's is among them or not."""
        self._assigned = mine
        if mine and self.relay is None:
            self.relay = self._make_relay(lambda: self._assigned)
            self.relay.start()
        elif not mine:
            await self.stop()

    async def stop(self) -> None:
        """End the relay, if one runs."""
        self._assigned = False
        relay, self.relay = self.relay, None
        if relay is not None:
            await relay.stop()

    def trouble(self) -> str | None:
        """Why the ledger cannot be used through this worker's relay; None where it can, or where another one serves."""
        if self.relay is None:
            return None
        if self.relay.stuck is not None:
            return self.relay.stuck
        if self.relay.blessed:
            return None
        if (recovery := self.relay.recovery) is not None:
            return f"Redis is being brought back: {recovery.phase}, {recovery.done} of {recovery.total or 'unknown'}"
        return self.relay.error or "the relay takes over"
