"""When a channel's snapshot is whole: the hub holds every SKU that the ledger knows.

In: the hub, and reads of the SKUs that the ledger knows, settled. Out: word to each subscriber, after which it may be
sent `synced`. A channel that is new is carried to the SKUs in steps, and their updates pass through three topics before
they are here; until then the hub holds some of them, or none.

Every SKU has a row of `channel-stock` for every known channel, and none is ever forgotten. So the hub is whole where it
held, before the ledger was asked, as many SKUs as the ledger knows; else the names are gone through by page, and each
page is waited for. One check serves all who came before it began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from stocktide.api.feeds.hub import Hub
from stocktide.tables.ledger.client import PAGE_SKUS_MAX, KnownSkus, LedgerError

log = logging.getLogger(__name__)

# What is published arrives here within a second or two, under load within some; beyond this it is said in the log.
LATE_SECONDS = 10.0
# Between two questions to a ledger that does not answer: it is being brought back, or Redis is away.
RETRY_SECONDS = 0.5

# (cursor, limit) → how many SKUs are known, and a page of their names, settled.
ReadKnown = Callable[[str, int], Awaitable[KnownSkus]]


@dataclass(slots=True)
class _Line:
    """Those who wait for one channel: checks are numbered, and whoever comes needs one that begins after that."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    begun: int = 0
    ended: int = 0


class SnapshotMonitor:
    """Says when snapshots are whole."""

    def __init__(self, hub: Hub, read: ReadKnown, late_seconds: float = LATE_SECONDS) -> None:
        self._hub = hub
        self._read = read
        self._late_seconds = late_seconds
        self._lines: dict[str, _Line] = {}
        self._late: dict[str, str] = {}

    @property
    def late(self) -> dict[str, str]:
        """By channel: a SKU that is known, and whose update has not come for LATE_SECONDS."""
        return self._late

    async def whole(self, channel: str) -> None:
        """Return once the hub holds for `channel` each SKU that was known at the call, however long that takes."""
        line = self._lines.setdefault(channel, _Line())
        needed = line.begun + 1
        line.waiting += 1
        try:
            while line.ended < needed:
                # Whoever has the lock checks for all; where its client leaves, the next one does.
                async with line.lock:
                    if line.ended < needed:
                        line.begun += 1
                        begun = line.begun
                        await self._check(channel)
                        line.ended = begun
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[channel]

    async def _check(self, channel: str) -> None:
        held = self._hub.held(channel)  # before the ledger is asked: all of these are among what it knows then
        known = await self._known("", 0)
        if held == known.count:
            return
        cursor = ""
        while True:
            names = (await self._known(cursor, PAGE_SKUS_MAX)).names
            await self._arrived(channel, names)
            if len(names) < PAGE_SKUS_MAX:
                return
            cursor = names[-1]

    async def _known(self, cursor: str, limit: int) -> KnownSkus:
        while True:
            try:
                return await self._read(cursor, limit)
            except (LedgerError, RedisError, OSError, TimeoutError) as error:
                log.debug("a feed waits for the ledger: %s", error or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _arrived(self, channel: str, names: Sequence[str]) -> None:
        """Wait until the hub holds these SKUs."""
        loop = asyncio.get_running_loop()
        late_at = loop.time() + self._late_seconds
        try:
            while names := self._hub.missing(channel, names):
                if loop.time() < late_at:
                    await self._hub.moved(late_at - loop.time())
                    continue
                if channel not in self._late:
                    log.warning("the feed of %s waits for %d SKUs, such as %s", channel, len(names), names[0])
                self._late[channel] = names[0]
                await self._hub.moved(self._late_seconds)
        finally:
            self._late.pop(channel, None)
