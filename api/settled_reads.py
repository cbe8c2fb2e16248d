"""Reads of the ledger that return settled state only.

In: a read, which names the newest batch and the newest settled one. Out: its value, when that batch is settled. If the
batch was lost, and another batch took its number, the value is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from stocktide.tables.ledger.client import LedgerError, LedgerRead
from stocktide.tables.settlement.listener import Settlement, SettlementListener

Value = TypeVar("Value")

# A takeover by a restarted worker is faster; in a longer outage a read fails after this, with Retry-After.
UNBLESSED_SECONDS_MAX = 1.0
PAUSE_SECONDS = 0.05


class SettledReads(Struct, frozen=True):
    """Waits until reads are settled. `request_seconds` is the time that a request of the API may take."""

    settlements: SettlementListener
    request_seconds: float

    def deadline(self) -> float:
        """The deadline of a request that begins now, in seconds of the loop's clock."""
        return asyncio.get_running_loop().time() + self.request_seconds

    async def settled(self, read: Callable[[], Awaitable[LedgerRead[Value]]], deadline: float | None = None) -> Value:
        """The value of `read`, settled.

        Raises TimeoutError after `deadline` (None: that of a request that begins now), LedgerError if the ledger stays
        unblessed, and the errors of redis-py.
        """
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = self.deadline()
        retry_until = loop.time() + UNBLESSED_SECONDS_MAX
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    found = await read()
                except LedgerError:
                    if loop.time() > retry_until:
                        raise
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if found.settled >= found.batch:
                    return found.value
                left = deadline - loop.time()
                outcome = await self.settlements.settled(found.batch, found.token, left)
                if outcome is Settlement.SETTLED:
                    return found.value
