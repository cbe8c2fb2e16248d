"""Reads that are as true as answers: nothing is shown that may still be lost.

In: a read of the ledger, which names the newest batch and the newest settled one. Out: its value, once that batch is
settled. Where it was lost, and another took its number, the value is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from stocktide.tables.ledger.client import LedgerError, LedgerRead
from stocktide.tables.settlement.listener import Settlement, SettlementListener

Value = TypeVar("Value")

# A takeover by a worker that was restarted is over within this; a longer outage is told at once, with Retry-After.
UNBLESSED_SECONDS_MAX = 1.0
PAUSE_SECONDS = 0.05


class SettledReads(Struct, frozen=True):
    """Waits for reads to be settled."""

    settlements: SettlementListener

    async def settled(self, read: Callable[[], Awaitable[LedgerRead[Value]]], deadline: float) -> Value:
        """The value of `read`, settled.

        Raises TimeoutError after `deadline` (seconds of the loop's clock), LedgerError where the ledger stays
        unblessed, and redis-py's errors.
        """
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + UNBLESSED_SECONDS_MAX
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    found = await read()
                except LedgerError:
                    if loop.time() > patient_until:
                        raise
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if found.settled >= found.batch:
                    return found.value
                left = deadline - loop.time()
                outcome = await self.settlements.settled(found.batch, found.token, left)
                if outcome is Settlement.SETTLED:
                    return found.value
