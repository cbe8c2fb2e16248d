"""Wide calls of one process leave room for the calls of others."""

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
    """Every call holds the server for `seconds`; notes when calls began and ended, and how many were under way."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.calls: list[tuple[float, float]] = []
        self.under_way_most = 0
        self._under_way = 0

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._under_way += 1
        self.under_way_most = max(self.under_way_most, self._under_way)
        await asyncio.sleep(0.01)
        self._under_way -= 1
        self.calls.append((began, loop.time()))
        payload = b"\x9c\x01\x00\x00\x90\x90\x90\x90\x90\x90\xc0\x90\x90"
        return AppliedBatch(0, token, payload, self._seconds)


class ImmediateSettlements:
    """Everything is settled at once."""

    async def settled(self, batch: int, token: str, wait: float) -> Settlement:
        return Settlement.SETTLED


async def _submit(ledger: WideLedger, calls: int) -> list[float]:
    """So many calls side by side; the pauses between them, once the first few have shown how long they are."""
    submitter = Submitter(ledger, ImmediateSettlements())  # type: ignore[arg-type]
    await asyncio.gather(*(submitter.answer([receive(f"m-{number}")], None) for number in range(calls)))
    ledger.under_way_most = 0
    ledger.calls.clear()
    await asyncio.gather(*(submitter.answer([receive(f"n-{number}")], None) for number in range(calls)))
    times = sorted(ledger.calls)
    return [after[0] - before[1] for before, after in pairwise(times)]


async def test_wide_calls_go_one_at_a_time_and_each_is_followed_by_a_rest_as_long_as_itself() -> None:
    ledger = WideLedger(seconds=0.3)
    pauses = await _submit(ledger, 4)
    assert ledger.under_way_most == 1
    assert min(pauses) > 0.27


async def test_short_calls_do_not_rest_and_overlap() -> None:
    ledger = WideLedger(seconds=0.002)
    pauses = await _submit(ledger, 6)
    assert ledger.under_way_most == 2
    assert max(pauses) < LONG_CALL_SECONDS / 2
