"""The timer of the ledger: ends holds whose deadline passed, dwells that are over, and sweeps after a policy.

In: time. Out: `Tick` and `Sweep`, submitted every `tick_ms`, and at once again while there was something due. Any
number of workers may do this: the ledger's step is atomic, and what one has done the other finds done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

from agents.intake import Submits
from agents.metrics import Metrics
from tables.commands import Sweep, Tick
from tables.outcomes import Outcome
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
        decision = await submitter.answer((Tick(orders_max=ORDERS_MAX), Sweep(skus_max=SKUS_MAX)), deadline)
    except Unsettled as error:
        logger.warning("the expiry step waits: %s", error)
        return False
    except Undecidable as error:
        logger.error("the expiry step fails: %s", error)
        return False
    due = any(result.outcome != Outcome.NOTHING_DUE for result in decision.results)
    if due:
        metrics.count(decision)
    return due
