"""Channels become known, and changes of policy reach every SKU.

In: the name of a channel that somebody subscribed to, or word that a policy changed. Out: commands to the ledger,
until there is nothing more to re-evaluate.
"""

from __future__ import annotations

import asyncio
import logging

from stocktide.api.batching import BatchSubmitter
from stocktide.tables.ledger.commands import KnowChannel, Sweep
from stocktide.tables.ledger.outcomes import Outcome

log = logging.getLogger(__name__)

# SKUs re-evaluated in one call: about 5 ms of Redis, behind which a shopper waits.
SKUS_PER_SWEEP_MAX = 500
# A subscriber waits this long for its channel to become known; its feed opens all the same.
KNOWN_SECONDS_MAX = 2.0
# One attempt to make a channel known, and the rest between two of them while the ledger is away.
ATTEMPT_SECONDS_MAX = 10.0
RETRY_SECONDS = 1.0
# Names that are remembered as known; beyond this they are asked for again, which changes nothing.
NAMES_REMEMBERED_MAX = 10_000


async def sweep(submitter: BatchSubmitter, deadline: float) -> bool:
    """Re-evaluate until nothing is due; False where `deadline` (seconds of the loop's clock) came first."""
    loop = asyncio.get_running_loop()
    while loop.time() < deadline:
        try:
            async with asyncio.timeout_at(deadline):
                decision = await submitter.decide([Sweep(skus_max=SKUS_PER_SWEEP_MAX)], deadline)
        except TimeoutError:
            return False
        if decision.results[0].outcome == Outcome.NOTHING_DUE:
            return True
    return False


class KnownChannels:
    """Makes each channel known once, however many subscribe to it at the same time."""

    def __init__(self, submitter: BatchSubmitter) -> None:
        self._submitter = submitter
        self._known: set[str] = set()
        self._attempts: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, channel: str) -> None:
        """Make `channel` known; goes on behind the caller's back where that takes longer than a moment."""
        if channel in self._known:
            return
        if (attempt := self._attempts.get(channel)) is None:
            attempt = self._attempts[channel] = asyncio.create_task(self._make_known(channel))
            attempt.add_done_callback(lambda _: self._attempts.pop(channel, None))
        await asyncio.wait([attempt], timeout=KNOWN_SECONDS_MAX)

    async def close(self) -> None:
        """Give up what is under way."""
        attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)

    async def _make_known(self, channel: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            deadline = loop.time() + ATTEMPT_SECONDS_MAX
            try:
                async with asyncio.timeout_at(deadline):
                    await self._submitter.decide([KnowChannel(channel=channel)], deadline)
                if await sweep(self._submitter, deadline):
                    break
            except Exception as error:
                log.warning("channel %s is not known yet: %s; trying again", channel, error or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        if len(self._known) >= NAMES_REMEMBERED_MAX:
            self._known.clear()
        self._known.add(channel)
