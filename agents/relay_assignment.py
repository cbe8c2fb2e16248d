"""Starts and stops the relay with the assignment of the shard's partition of `orders` (decision 0043).

In: assignments. Out: a running relay, or none. A rebalance that keeps the partition here keeps the relay running. Two
workers that both believe to own the partition are harmless, because the journal's terms decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stocktide.tables.recovery.rebuild import RecoveryProgress


class RunningRelay(Protocol):
    """The relay as its users see it."""

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
    """The relay of one shard on this worker. `make_relay` takes a predicate: whether the shard is still assigned."""

    def __init__(self, make_relay: Callable[[Callable[[], bool]], RunningRelay]) -> None:
        self._make_relay = make_relay
        self._assigned = False
        self.relay: RunningRelay | None = None

    async def on_assigned(self, assigned: bool) -> None:
        """Handle an assignment: `assigned` tells whether it includes the shard's partition."""
        self._assigned = assigned
        if assigned and self.relay is None:
            self.relay = self._make_relay(lambda: self._assigned)
            self.relay.start()
        elif not assigned:
            await self.stop()

    async def stop(self) -> None:
        """Stop the relay, if one runs."""
        self._assigned = False
        relay, self.relay = self.relay, None
        if relay is not None:
            await relay.stop()

    def trouble(self) -> str | None:
        """Why this worker's relay does not serve the ledger; None if it does, or if another worker's relay serves."""
        if self.relay is None:
            return None
        if self.relay.stuck is not None:
            return self.relay.stuck
        if self.relay.blessed:
            return None
        if (recovery := self.relay.recovery) is not None:
            return f"Redis is being brought back: {recovery.phase}, {recovery.done} of {recovery.total or 'unknown'}"
        return self.relay.error or "the relay takes over"
