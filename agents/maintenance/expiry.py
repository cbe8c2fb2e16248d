"""The timer of the ledger: ends holds and dwells that are due, and continues sweeps and counts.

In: time. Out: `Tick`, `Sweep`, `ContinueCounts` and `WriteWhole`, submitted every `tick_ms`; the first three are
repeated at once while something is due, the last one follows a tick that says that SKUs are patched. Any number of
workers may run it: each step is atomic and idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

from msgspec import structs

from stocktide.agents.metrics import WorkerMetrics
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, ContinueCounts, Restate, Sweep, Tick, WriteWhole
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import DecisionHead, Result
from stocktide.tables.ledger.submission import Submitter, Undecidable, Unsettled
from stocktide.tables.settlement.stalls import StepStatus

logger = logging.getLogger(__name__)

# Per Lua call: Redis blocks for a few ms.
ORDERS_MAX = 100
SKUS_MAX = 200
# Per step of a count, a batch of its own: each SKU costs as much as an order.
COUNTED_SKUS_MAX = 100
# After a step of n whole rows that took t seconds, wait WHOLE_REST_FACTOR x t: several changes of a SKU then share one
# row, and other callers get most of Redis's time. At least WHOLE_ROW_SECONDS x n: as JSON, a row of 400 warehouses has
# 50 KB and takes a millisecond.
WHOLE_REST_FACTOR = 4
WHOLE_ROW_SECONDS = 0.005
# After this time a step is abandoned; the next one covers it.
DEADLINE_SECONDS = 30.0


async def run_expiry(submitter: Submitter, metrics: WorkerMetrics, tick_ms: int, steps: StepStatus) -> NoReturn:
    """Run until cancelled."""
    tick = (Tick(orders_max=ORDERS_MAX), Sweep(skus_max=SKUS_MAX))
    loop, whole_at = asyncio.get_running_loop(), 0.0
    while True:
        await asyncio.sleep(tick_ms / 1000)
        while is_due(ticked := await run_step(submitter, metrics, tick, steps)):
            pass
        while is_due(await run_step(submitter, metrics, (ContinueCounts(skus_max=COUNTED_SKUS_MAX),), steps)):
            await run_step(submitter, metrics, tick, steps)
        if ticked and ticked[0].detail == "patched" and (began := loop.time()) >= whole_at:
            written = await run_step(submitter, metrics, (WriteWhole(skus_max=SKUS_MAX),), steps)
            rows = int(written[0].detail or 0) if written else 0
            whole_at = loop.time() + max(WHOLE_ROW_SECONDS * rows, WHOLE_REST_FACTOR * (loop.time() - began))


def is_due(results: tuple[Result, ...]) -> bool:
    """Whether a step did anything, so that more may be due."""
    return any(result.outcome != Outcome.NOTHING_DUE for result in results)


async def run_step(
    submitter: Submitter, metrics: WorkerMetrics, commands: tuple[Command, ...], steps: StepStatus
) -> tuple[Result, ...]:
    """Run one step; returns its results, none if it failed."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    try:
        decision = await _decide(submitter, commands, deadline)
    except Unsettled as error:
        steps.failed(error)
        logger.warning("the expiry step waits: %s", error)
        return ()
    except (Undecidable, TooLarge) as error:
        steps.failed(error)
        logger.error("the expiry step fails: %s", error)
        return ()
    steps.did()
    if is_due(decision.results):
        metrics.count(decision)
    return decision.results


async def _decide(submitter: Submitter, commands: tuple[Command, ...], deadline: float) -> DecisionHead:
    """Submit `commands` in one batch, or each in smaller batches if that is too large. Raises TooLarge."""
    try:
        return await submitter.answer(commands, deadline)
    except TooLarge as error:
        logger.warning("a step of the timer is divided: %s", error)
    answers = [await submit_halving(submitter, command, deadline) for command in commands]
    return structs.replace(answers[-1], results=tuple(result for answer in answers for result in answer.results))


# The field that limits the size of a step, by command.
_SIZES: dict[type[Command], str] = {
    Tick: "orders_max",
    Sweep: "skus_max",
    ContinueCounts: "skus_max",
    WriteWhole: "skus_max",
    Restate: "keys_max",
}


async def submit_halving(submitter: Submitter, command: Command, deadline: float | None) -> DecisionHead:
    """Submit a step, halving its size while it is too large. Raises TooLarge at size 1."""
    name = _SIZES[type(command)]
    while True:
        try:
            return await submitter.answer((command,), deadline)
        except TooLarge:
            size = getattr(command, name)
            if size == 1:
                raise
            command = structs.replace(command, **{name: size // 2})
