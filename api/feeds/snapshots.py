"""Waits until the snapshot of a channel is complete: the hub has an update of every SKU that the ledger knows.

In: the hub, and settled reads of the known SKUs. Out: a completed wait, after which a subscriber may get `synced`. A
new channel is added to the SKUs in steps, and their updates pass through three topics; until then the hub has some or
none of them.

Every SKU has a row of `channel-stock` for every known channel, and rows are never removed. So the snapshot is complete
if the hub had, before the ledger was read, as many SKUs as the ledger knows; otherwise the names are read page by page,
and each page is awaited. One check serves all subscribers that came before it started.
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

# Updates arrive within seconds, also under load; after this a warning is logged.
LATE_SECONDS = 10.0
# The pause before a failed read of the ledger is retried.
RETRY_SECONDS = 0.5

# (cursor, limit) → the number of known SKUs and a page of their names, settled.
ReadKnown = Callable[[str, int], Awaitable[KnownSkus]]


@dataclass(slots=True)
class _Waiters:
    """The waiters for one channel. Checks are numbered; a waiter needs one that starts after its call."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    begun: int = 0
    ended: int = 0


class SnapshotMonitor:
    """Waits for the completeness of snapshots."""

    def __init__(self, hub: Hub, read: ReadKnown, late_seconds: float = LATE_SECONDS) -> None:
        self._hub = hub
        self._read = read
        self._late_seconds = late_seconds
        self._waiters: dict[str, _Waiters] = {}
        self._late: dict[str, str] = {}

    @property
    def late(self) -> dict[str, str]:
        """By channel: a known SKU without an update for LATE_SECONDS."""
        return self._late

    async def whole(self, channel: str) -> None:
        """Wait, without a limit, until the hub has each SKU for `channel` that was known at the call."""
        waiters = self._waiters.setdefault(channel, _Waiters())
        needed = waiters.begun + 1
        waiters.waiting += 1
        try:
            while waiters.ended < needed:
                # The holder of the lock checks for all; if it is cancelled, the next one does.
                async with waiters.lock:
                    if waiters.ended < needed:
                        waiters.begun += 1
                        begun = waiters.begun
                        await self._check(channel)
                        waiters.ended = begun
        finally:
            waiters.waiting -= 1
            if not waiters.waiting:
                del self._waiters[channel]

    async def _check(self, channel: str) -> None:
        held = self._hub.held(channel)  # before the read: the ledger knows all of these by then
        known = await self._read_known("", 0)
        if held == known.count:
            return
        cursor = ""
        while True:
            names = (await self._read_known(cursor, PAGE_SKUS_MAX)).names
            await self._wait_for(channel, names)
            if len(names) < PAGE_SKUS_MAX:
                return
            cursor = names[-1]

    async def _read_known(self, cursor: str, limit: int) -> KnownSkus:
        while True:
            try:
                return await self._read(cursor, limit)
            except (LedgerError, RedisError, OSError, TimeoutError) as error:
                log.debug("a feed waits for the ledger: %s", error or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _wait_for(self, channel: str, names: Sequence[str]) -> None:
        """Wait until the hub has these SKUs."""
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
