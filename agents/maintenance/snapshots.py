"""What the shard's owner does in the background, so that the journal may be cut and a rebuild stays short (rule R9).

In: time. Out: `Restate` commands, a page a second, so that each pass over all SKUs and orders ends well within its
period; and, now and then, a journal that begins where the last pass began or where its retention ends, whichever lies
further back, with the milestones below removed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.agents.intake import CommandSubmitter
from stocktide.agents.maintenance.expiry import submit_halving
from stocktide.streams.journal.record import Position
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OutputRow
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Undecidable, Unsettled
from stocktide.tables.recovery.checkpoints import Checkpoints, milestone_key
from stocktide.tables.settlement.stalls import StepStatus

logger = logging.getLogger(__name__)

# A page is one call of Lua, of a few ms: a shopper waits behind it.
KEYS_MIN, KEYS_MAX = 50, 500
PAGE_SECONDS = 1.0
# After a page that was not done: soon enough that one failure is not taken for a stall.
RETRY_SECONDS = 5.0
# The first pass waits: a worker that has just started has better things to do.
FIRST_SECONDS_MAX = 600.0
# A page that is not settled by then is left to the next one.
DEADLINE_SECONDS = 30.0
# How often it is looked whether the journal may be cut.
TRIM_SECONDS = 3_600.0


class SnapshotRefresh:
    """Writes every SKU and open order into the journal anew once in `every_seconds`, while `owns` says that the shard
    is this worker's. `keys` counts the keys there are."""

    def __init__(
        self,
        submitter: CommandSubmitter,
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
                self.steps.trouble = None  # it is the next owner's
            going = owns and await self.page()
            rest = min(RETRY_SECONDS if self.steps.trouble else 60.0, self._every_seconds / 10)
            await asyncio.sleep(PAGE_SECONDS if going else rest)

    async def page(self) -> bool:
        """One page; whether there are more in this pass."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        try:
            command = Restate(keys_max=await self._keys_max(), every_ms=self._every_seconds * 1000)
            decision = await submit_halving(self._submitter, command, deadline)
        except (Unsettled, Undecidable, TooLarge, RedisError, OSError) as error:
            self.steps.failed(error)
            logger.warning("writing rows anew waits: %s", error)
            return False
        self.steps.did()
        result = decision.results[0]
        return result.outcome == Outcome.RESTATED and not (result.detail or "").startswith(("ended", "whole"))

    async def _keys_max(self) -> int:
        """So many that a pass ends in half of its period."""
        pages = max(1.0, self._every_seconds / 2 / PAGE_SECONDS)
        return min(KEYS_MAX, max(KEYS_MIN, math.ceil(await self._keys() / pages)))


class WriteRows(Protocol):
    """What is needed of the publisher."""

    async def __call__(self, rows: list[OutputRow]) -> None: ...


class JournalTrimmer:
    """Cuts the journal. `checkpoints` reads them, `trim` cuts below an offset and says where the journal begins then,
    `forget` removes rows of `journal-positions`."""

    def __init__(
        self,
        checkpoints: Callable[[], Awaitable[Checkpoints]],
        trim: Callable[[int], Awaitable[int]],
        forget: WriteRows,
        owns: Callable[[], bool],
        shard: int = 0,
    ) -> None:
        self._landmarks = checkpoints
        self._trim = trim
        self._forget = forget
        self._owns = owns
        self._shard = shard

    async def run(self) -> NoReturn:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            if self._owns():
                try:
                    await self.once()
                except (KafkaError, OSError, MembershipLost) as error:
                    logger.warning("cutting the journal waits: %s", error)

    async def once(self) -> None:
        """Look, and cut. Nothing is cut before a pass over all rows has ended and been derived."""
        checkpoints = await self._landmarks()
        if checkpoints.whole is None:
            return
        beginning = await self._trim(checkpoints.whole.offset)
        gone = [milestone for milestone in checkpoints.milestones if milestone.offset < beginning]
        if gone:
            await self._forget([(self._key(milestone), None) for milestone in gone])
            logger.info("the journal begins at offset %d now; %d milestones below are gone", beginning, len(gone))

    def _key(self, milestone: Position) -> bytes:
        return milestone_key(self._shard, milestone)
