"""The restate pass and the trimming of the journal, by the owner of the shard; they keep a rebuild short (rule R9).

In: time. Out: `Restate` commands, one page per second, so that each pass over all SKUs and orders ends well within its
period; and a journal trimmed to the beginning of the last pass or to its retention, whichever is older, without the
milestones below.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import NoReturn

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.agents.maintenance.expiry import submit_halving
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OutputRow
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Submitter, Undecidable, Unsettled
from stocktide.tables.recovery.checkpoints import Checkpoints, milestone_key
from stocktide.tables.settlement.stalls import StepStatus

logger = logging.getLogger(__name__)

# A page is one Lua call: Redis blocks for a few ms.
KEYS_MIN, KEYS_MAX = 50, 500
PAGE_SECONDS = 1.0
# The wait after a page that failed: short enough that one failure is not reported as a stall.
RETRY_SECONDS = 5.0
# The first pass is delayed, to keep a starting worker free.
FIRST_SECONDS_MAX = 600.0
# After this time a page is abandoned and repeated.
DEADLINE_SECONDS = 30.0
# The interval of trimming.
TRIM_SECONDS = 3_600.0


class RestatePass:
    """Writes each SKU and open order into the journal again once in `every_seconds`, while `owns` returns true.
    `keys` counts the keys in Redis."""

    def __init__(
        self,
        submitter: Submitter,
        keys: Callable[[], Awaitable[int]],
        owns: Callable[[], bool],
        every_seconds: int,
    ) -> None:
        self._submitter = submitter
        self._keys = keys
        self._owns = owns
        self._every_seconds = every_seconds
        self.steps = StepStatus()

    async def run(self) -> NoReturn:
        """Run until cancelled."""
        await asyncio.sleep(min(FIRST_SECONDS_MAX, self._every_seconds))
        while True:
            owns = self._owns()
            if not owns:
                self.steps.trouble = None  # the next owner reports its own
            has_more = owns and await self.page()
            pause = min(RETRY_SECONDS if self.steps.trouble else 60.0, self._every_seconds / 10)
            await asyncio.sleep(PAGE_SECONDS if has_more else pause)

    async def page(self) -> bool:
        """Write one page; returns whether the pass has more."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        try:
            command = Restate(keys_max=await self._keys_max(), every_ms=self._every_seconds * 1000)
            decision = await submit_halving(self._submitter, command, deadline)
        except (Unsettled, Undecidable, TooLarge, RedisError, OSError) as error:
            self.steps.failed(error)
            logger.warning("writing a page of rows again failed: %s", error)
            return False
        self.steps.did()
        result = decision.results[0]
        return result.outcome == Outcome.RESTATED and not (result.detail or "").startswith(("ended", "whole"))

    async def _keys_max(self) -> int:
        """The page size with which a pass ends in half of its period."""
        pages = max(1.0, self._every_seconds / 2 / PAGE_SECONDS)
        return min(KEYS_MAX, max(KEYS_MIN, math.ceil(await self._keys() / pages)))


class JournalTrimmer:
    """Trims the journal. `checkpoints` reads them; `trim` deletes records below an offset and returns the journal's new
    beginning; `write_rows` publishes to `journal-positions`."""

    def __init__(
        self,
        checkpoints: Callable[[], Awaitable[Checkpoints]],
        trim: Callable[[int], Awaitable[int]],
        write_rows: Callable[[list[OutputRow]], Awaitable[None]],
        owns: Callable[[], bool],
        shard: int = 0,
    ) -> None:
        self._checkpoints = checkpoints
        self._trim = trim
        self._write_rows = write_rows
        self._owns = owns
        self._shard = shard

    async def run(self) -> NoReturn:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            if self._owns():
                try:
                    await self.trim_once()
                except (KafkaError, OSError, MembershipLost) as error:
                    logger.warning("trimming the journal failed: %s", error)

    async def trim_once(self) -> None:
        """Trim below the beginning of the last pass that has ended and is derived, if there is one."""
        checkpoints = await self._checkpoints()
        if checkpoints.whole is None:
            return
        beginning = await self._trim(checkpoints.whole.offset)
        gone = [milestone for milestone in checkpoints.milestones if milestone.offset < beginning]
        if gone:
            await self._write_rows([(milestone_key(self._shard, milestone), None) for milestone in gone])
            logger.info("the journal now begins at offset %d; %d milestones below it are removed", beginning, len(gone))
