"""Listens for what is settled, for all callers of one process.

In: the Redis channel `settled` of the shard (msgpack `[[batch, token], …]`), and, where nothing comes, the hash of the
same name. Out: for a batch and its token, whether it counts. Messages may be lost (a cut connection): then a caller
learns it a little later by the hash, or is told that it was overtaken and submits again, which its ids make safe.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.streams.shutdown import end
from stocktide.tables.ledger.scripts import key_prefix

_LOG = logging.getLogger(__name__)
# Settled batches that are remembered for a caller that comes late: many times what a second brings.
_RECENT_MAX = 20_000
# A caller that waits longer than this makes us look at the hash; a settle takes a few ms, so that is rare.
_POLL_SECONDS = 0.1
# Pauses between attempts to subscribe again, doubled from the first to the last. Callers meanwhile learn by the hash.
_PAUSE_SECONDS_FIRST = 0.05
_PAUSE_SECONDS_MAX = 1.0
# How long one read of the subscription may last, so that a dead connection is noticed by the ping that follows.
_LISTEN_SECONDS = 5.0

_MESSAGE = msgspec.msgpack.Decoder(list[tuple[int, str]])


class Settlement(StrEnum):
    """What became of a batch."""

    SETTLED = "settled"  # with this token: it counts, for ever
    LOST = "lost"  # a later batch settled, and this token is not known to have
    TIMEOUT = "timeout"  # nothing yet


class SettlementListener:
    """One subscription per process and shard. `start` it, `stop` it; `settled` may be called before either."""

    def __init__(self, redis: Redis, app_id: str, shard: int = 0) -> None:
        self._redis = redis
        self._key = key_prefix(app_id, shard) + "settled"
        self._recent: OrderedDict[int, str] = OrderedDict()
        self._waiting: dict[int, list[tuple[str, asyncio.Future[Settlement]]]] = {}
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._waited = asyncio.Event()
        self._stale = False
        self.newest = 0
        self.subscribed = False
        # Why the newest subscription was cut, or could not be made.
        self.trouble = "it was not made yet"

    def start(self) -> None:
        """Begin to listen. Waits for nothing: a Redis that is away is tried again until it is there."""
        self._tasks = (asyncio.create_task(self._listen()), asyncio.create_task(self._poll()))

    async def stop(self) -> None:
        """Stop listening; whoever still waits gets `timeout`."""
        await end(*self._tasks)
        for batch in list(self._waiting):
            self._resolve(batch, Settlement.TIMEOUT)

    async def settled(self, batch: int, token: str, timeout: float) -> Settlement:
        """What became of `batch` under `token`; waits up to `timeout` seconds for it."""
        known = self._recent.get(batch)
        if known is not None:
            return Settlement.SETTLED if known == token else Settlement.LOST
        if batch < self.newest:
            return Settlement.LOST
        future: asyncio.Future[Settlement] = asyncio.get_running_loop().create_future()
        waiter = (token, future)
        self._waiting.setdefault(batch, []).append(waiter)
        self._waited.set()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return Settlement.TIMEOUT
        finally:
            self._forget(batch, waiter)

    def note(self, settled: list[tuple[int, str]]) -> None:
        """Take in what was settled, in order. A batch below it that is still waited for was missed, or lost."""
        for batch, token in settled:
            self._recent[batch] = token
            self._resolve(batch, None, token)
        while len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        self.newest = max(self.newest, settled[-1][0])
        self._overtake(settled[0][0])

    def _overtake(self, below: int) -> None:
        for batch in [batch for batch in self._waiting if batch < below]:
            self._resolve(batch, Settlement.LOST)

    def _resolve(self, batch: int, outcome: Settlement | None, settled_token: str = "") -> None:
        for token, future in self._waiting.pop(batch, ()):
            if not future.done():
                same = Settlement.SETTLED if token == settled_token else Settlement.LOST
                future.set_result(outcome or same)

    def _forget(self, batch: int, waiter: tuple[str, asyncio.Future[Settlement]]) -> None:
        waiters = self._waiting.get(batch)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[batch]

    async def _listen(self) -> None:
        pause = _PAUSE_SECONDS_FIRST
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(self._key)
                    await self._follow(subscription)
            except (RedisError, OSError) as error:
                self.trouble = str(error) or type(error).__name__
                if self.subscribed:  # said once, not at every attempt
                    _LOG.warning("the subscription to settled batches was cut and is made again: %s", error)
            pause = _PAUSE_SECONDS_FIRST if self.subscribed else min(2 * pause, _PAUSE_SECONDS_MAX)
            self.subscribed = False
            await asyncio.sleep(pause)

    async def _follow(self, subscription: Any) -> None:
        """Take in messages until the connection ends, or the hash shows that it brings none."""
        self._stale = False
        while not self._stale:
            message = await subscription.get_message(timeout=_LISTEN_SECONDS)
            if message is None:
                await subscription.ping()
            elif message["type"] == "subscribe":
                self.subscribed = True
            elif message["type"] == "message":
                self.note(_MESSAGE.decode(message["data"]))

    async def _poll(self) -> None:
        """Look at the hash while somebody waits. A batch below what it showed a whole interval ago was missed."""
        seen_before = 0
        while True:
            if not self._waiting:
                self._waited.clear()
                await self._waited.wait()
            await asyncio.sleep(_POLL_SECONDS)
            if not self._waiting:
                continue
            try:
                found: Sequence[Any] = await self._redis.hmget(self._key, ["batch", "token"])
            except (RedisError, OSError):
                continue  # the callers' own time-outs are what counts then
            if found[0] is None:
                continue
            if seen_before > self.newest:
                self._stale = True  # a message that old should have come
                self._overtake(seen_before)
            self._resolve_exactly(int(found[0]), found[1].decode())
            seen_before = int(found[0])

    def _resolve_exactly(self, batch: int, token: str) -> None:
        if batch in self._waiting:
            self._recent[batch] = token
            self._resolve(batch, None, token)
