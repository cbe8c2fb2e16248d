"""Executes a repair plan during live traffic: one command per correction, one batch per command.

In: a planner and a submitter. Out: the result of each correction. If a key changed before its correction, it is read
again and gets a new correction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import StrEnum

from stocktide.tables.audit.plan import Correction, RepairPlanner
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Submitter

# Attempts per correction. Repairs of a SKU's counters do not depend on other changes, and an order changes a few dozen
# times at most.
_ATTEMPTS_MAX = 20
# A batch settles within ms; a takeover in between takes a second or two.
_DEADLINE_SECONDS = 30.0


class CorrectionResult(StrEnum):
    """The result of a correction."""

    REPAIRED = "repaired"
    MOVED_ON = "moved_on"  # in each attempt
    NOT_NEEDED = "not_needed"  # the key was correct by then
    BY_HAND = "by_hand"


async def apply_corrections(
    planner: RepairPlanner, submitter: Submitter
) -> AsyncIterator[tuple[Correction, CorrectionResult]]:
    """Yield each correction with its result. Raises the errors of an audit, and the submitter's Unsettled and
    Undecidable; earlier corrections stay."""
    async for correction in planner.plan():
        yield await _apply(planner, submitter, correction)


async def _apply(
    planner: RepairPlanner, submitter: Submitter, correction: Correction
) -> tuple[Correction, CorrectionResult]:
    for _ in range(_ATTEMPTS_MAX):
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
