"""Long calls of one process leave room for the calls of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from stocktide.tables.ledger.client import AppliedBatch
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.submission import LONG_CALL_SECONDS, Submitter
from stocktide.tables.settlement.listener import Settlement
from tests.protocol.rig import receive


class WideLedger:
    """A ledger whose calls take `seconds`; records the times of calls and how many ran at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.calls: list[tuple[float, float]] = []
        self.concurrent_most = 0
        self._running = 0

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._running += 1
        self.concurrent_most = max(self.concurrent_most, self._running)
        await asyncio.sleep(0.01)
        self._running -= 1
        self.calls.append((began, loop.time()))
        payload = b"\x9c\x01\x00\x00\x90\x90\x90\x90\x90\x90\xc0\x90\x90"
        return AppliedBatch(0, token, payload, self._seconds)


class ImmediateSettlements:
    """Everything is settled at once."""

    async def settled(self, batch: int, token: str, wait: float) -> Settlement:
        return Settlement.SETTLED


async def _submit(ledger: WideLedger, calls: int) -> list[float]:
    """Make concurrent calls, after as many that show their length; the pauses between the calls."""
    submitter = Submitter(ledger, ImmediateSettlements())  # type: ignore[arg-type]
    await asyncio.gather(*(submitter.answer([receive(f"m-{number}")], None) for number in range(calls)))
    ledger.concurrent_most = 0
    ledger.calls.clear()
    await asyncio.gather(*(submitter.answer([receive(f"n-{number}")], None) for number in range(calls)))
    times = sorted(ledger.calls)
    return [after[0] - before[1] for before, after in pairwise(times)]


async def test_long_calls_go_one_at_a_time_and_each_is_followed_by_an_equal_pause() -> None:
    ledger = WideLedger(seconds=0.3)
    pauses = await _submit(ledger, 4)
    assert ledger.concurrent_most == 1
    assert min(pauses) > 0.27


async def test_short_calls_overlap_without_pauses() -> None:
    ledger = WideLedger(seconds=0.002)
    pauses = await _submit(ledger, 6)
    assert ledger.concurrent_most == 2
    assert max(pauses) < LONG_CALL_SECONDS / 2
