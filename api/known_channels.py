"""Registers channels, and carries changes of policies to every SKU.

In: the name of a subscribed channel, or a change of a policy. Out: commands to the ledger, until no SKU is left to
re-evaluate.
"""

from __future__ import annotations

import asyncio
import logging

from stocktide.api.batching import BatchSubmitter
from stocktide.tables.ledger.commands import KnowChannel, Sweep
from stocktide.tables.ledger.outcomes import Outcome

log = logging.getLogger(__name__)

# SKUs re-evaluated in one call, during which Redis blocks for about 5 ms.
SKUS_PER_SWEEP_MAX = 500
# A feed waits this long for the registration of its channel, then starts anyway.
KNOWN_SECONDS_MAX = 2.0
# The deadline of one attempt, and the pause before the next.
ATTEMPT_SECONDS_MAX = 10.0
RETRY_SECONDS = 1.0
# Cached names; a repeated registration changes nothing.
NAMES_CACHED_MAX = 10_000


async def sweep(submitter: BatchSubmitter, deadline: float) -> bool:
    """Re-evaluate until nothing is due; False at `deadline` (seconds of the loop's clock)."""
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
    """Registers each channel once, also for concurrent subscribers."""

    def __init__(self, submitter: BatchSubmitter) -> None:
        self._submitter = submitter
        self._known: set[str] = set()
        self._attempts: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, channel: str) -> None:
        """Register `channel`; returns after KNOWN_SECONDS_MAX, while the registration continues."""
        if channel in self._known:
            return
        if (attempt := self._attempts.get(channel)) is None:
            attempt = self._attempts[channel] = asyncio.create_task(self._register(channel))
            attempt.add_done_callback(lambda _: self._attempts.pop(channel, None))
        await asyncio.wait([attempt], timeout=KNOWN_SECONDS_MAX)

    async def close(self) -> None:
        """Cancel the pending registrations."""
        attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)

    async def _register(self, channel: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            deadline = loop.time() + ATTEMPT_SECONDS_MAX
            try:
                async with asyncio.timeout_at(deadline):
                    await self._submitter.decide([KnowChannel(channel=channel)], deadline)
                if await sweep(self._submitter, deadline):
                    break
            except Exception as error:
                log.warning("channel %s is not registered yet, retrying: %s", channel, error or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        if len(self._known) >= NAMES_CACHED_MAX:
            self._known.clear()
        self._known.add(channel)
