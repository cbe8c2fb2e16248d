"""The timer of the ledger: ends holds whose deadline passed, dwells that are over, and sweeps after a policy.

In: time. Out: `Tick` and `Sweep`, submitted every `tick_ms`, and at once again while there was something due. Any
number of workers may do this: the ledger's step is atomic, and what one has done the other finds done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from msgspec import structs

from agents.intake import Submits
from agents.metrics import Metrics
from tables.commands import Command, Sweep, Tick
from tables.ledger import TooLarge
from tables.outcomes import Outcome
from tables.records import Answer
from tables.submission import Undecidable, Unsettled

logger = logging.getLogger(__name__)

# One call of Lua, of a few ms: a shopper waits behind it.
ORDERS_MAX = 100
SKUS_MAX = 200
# A tick that is not settled by then is left to the next one.
DEADLINE_SECONDS = 30.0


async def keep_time(submitter: Submits, metrics: Metrics, tick_ms: int) -> NoReturn:
    """Run until cancelled."""
    while True:
        await asyncio.sleep(tick_ms / 1000)
        while await tick_once(submitter, metrics):
            pass


async def tick_once(submitter: Submits, metrics: Metrics) -> bool:
    """One step of what is due; whether there was anything, so that there may be more."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    try:
        decision = await _decide(submitter, deadline)
    except Unsettled as error:
        logger.warning("the expiry step waits: %s", error)
        return False
    except (Undecidable, TooLarge) as error:
        logger.error("the expiry step fails: %s", error)
        return False
    due = any(result.outcome != Outcome.NOTHING_DUE for result in decision.results)
    if due:
        metrics.count(decision)
    return due


async def _decide(submitter: Submits, deadline: float) -> Answer:
    """A tick and a sweep, in one batch or in smaller ones where that is too large. Raises TooLarge."""
    try:
        return await submitter.answer((Tick(orders_max=ORDERS_MAX), Sweep(skus_max=SKUS_MAX)), deadline)
    except TooLarge as error:
        logger.warning("the expiry step is divided: %s", error)
    tick = await submit_smaller(submitter, ORDERS_MAX, lambda orders_max: Tick(orders_max=orders_max), deadline)
    sweep = await submit_smaller(submitter, SKUS_MAX, lambda skus_max: Sweep(skus_max=skus_max), deadline)
    return structs.replace(sweep, results=(*tick.results, *sweep.results))


async def submit_smaller(
    submitter: Submits, size: int, command: Callable[[int], Command], deadline: float | None
) -> Answer:
    """Submit `command(size)`, and a half of it again and again while that is too large. Raises TooLarge at 1."""
    while True:
        try:
            return await submitter.answer((command(size),), deadline)
        except TooLarge:
            if size == 1:
                raise
            size //= 2
