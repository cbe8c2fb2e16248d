"""A plan carried out beside live traffic: one command for each correction, one batch for each command.

In: a planner, and a submitter that has its commands decided and settled. Out: what became of each correction. A key
that moved on before its correction came is looked at again, and its correction made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol

from stocktide.tables.audit.plan import Correction, RepairPlanner
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import DecisionHead

# A key that moves on so often is one that everybody wants: what is wrong with a SKU's counters does not come here, and
# an order has at most a few dozen changes in its life.
_TRIES_MAX = 20
# A batch is settled within ms; a takeover in between takes a second or two.
_DEADLINE_SECONDS = 30.0


class CorrectionResult(StrEnum):
    """What became of a correction."""

    REPAIRED = "repaired"
    MOVED_ON = "moved_on"  # again and again
    NOT_NEEDED = "not_needed"  # when its turn came, nothing was wrong any more
    BY_HAND = "by_hand"


class RepairSubmitter(Protocol):
    """What is needed of the submitter."""

    async def answer(self, commands: Sequence[Command], deadline: float | None) -> DecisionHead: ...


async def apply_corrections(
    planner: RepairPlanner, submitter: RepairSubmitter
) -> AsyncIterator[tuple[Correction, CorrectionResult]]:
    """Every correction with what became of it, as it is made. Raises what an audit raises, and Unsettled and
    Undecidable of the submitter; what was made until then stays."""
    async for correction in planner.plan():
        yield await _make(planner, submitter, correction)


async def _make(
    planner: RepairPlanner, submitter: RepairSubmitter, correction: Correction
) -> tuple[Correction, CorrectionResult]:
    for _ in range(_TRIES_MAX):
        if correction.command is None:
            return correction, CorrectionResult.BY_HAND
        deadline = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
        answer = await submitter.answer((correction.command,), deadline)
        if answer.results[0].outcome == Outcome.REPAIRED:
            return correction, CorrectionResult.REPAIRED
        anew = await planner.again(correction)
        if anew is None:
            return correction, CorrectionResult.NOT_NEEDED
        correction = anew
    return correction, CorrectionResult.MOVED_ON
