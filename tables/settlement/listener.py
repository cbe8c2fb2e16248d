"""The listener for settled batches, shared by all callers of one process.

In: the Redis channel `settled` of the shard (msgpack `[[batch, token], …]`), and, without messages, the hash of the
same name. Out: for a batch and its token, whether it is settled. A message may be lost with its connection: the caller
then gets the result later from the hash, or gets LOST and submits again, which its ids make safe.
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

from stocktide.streams.backoff import doubling_pauses
from stocktide.streams.shutdown import end
from stocktide.tables.ledger.scripts import key_prefix

_LOG = logging.getLogger(__name__)
# Settled batches kept for callers that ask late: those of many seconds.
_RECENT_MAX = 20_000
# The hash is read for a caller that waits longer than this; a settle takes a few ms, so that is rare.
_POLL_SECONDS = 0.1
# Back-off between attempts to subscribe; meanwhile callers depend on the hash.
_PAUSE_SECONDS_FIRST = 0.05
_PAUSE_SECONDS_MAX = 1.0
# Limit of one read of the subscription; the ping after it detects a dead connection.
_LISTEN_SECONDS = 5.0

_MESSAGE = msgspec.msgpack.Decoder(list[tuple[int, str]])


class Settlement(StrEnum):
    """The state of a batch."""

    SETTLED = "settled"  # with this token, permanently
    LOST = "lost"  # a later batch is settled, and this token is not known to be
    TIMEOUT = "timeout"  # not settled yet


class SettlementListener:
    """The subscription of one process to one shard. `settled` may be called before `start` and after `stop`."""

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
        # The error of the newest subscription.
        self.trouble = "it was not made yet"

    def start(self) -> None:
        """Start listening in the background; retries until Redis is reachable."""
        self._tasks = (asyncio.create_task(self._listen()), asyncio.create_task(self._poll()))

    async def stop(self) -> None:
        """Stop listening; waiting callers get TIMEOUT."""
        await end(*self._tasks)
        for batch in list(self._waiting):
            self._resolve(batch, Settlement.TIMEOUT)

    async def settled(self, batch: int, token: str, timeout: float) -> Settlement:
        """The state of `batch` with `token`; waits up to `timeout` seconds until it is settled or lost."""
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
        """Process settled batches, in order. Waiting callers of batches below them get LOST."""
        for batch, token in settled:
            self._recent[batch] = token
            self._resolve(batch, None, token)
        while len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        self.newest = max(self.newest, settled[-1][0])
        self._resolve_lost(settled[0][0])

    def _resolve_lost(self, below: int) -> None:
        for batch in [batch for batch in self._waiting if batch < below]:
            self._resolve(batch, Settlement.LOST)

    def _resolve(self, batch: int, outcome: Settlement | None, settled_token: str = "") -> None:
        for token, future in self._waiting.pop(batch, ()):
            if not future.done():
                by_token = Settlement.SETTLED if token == settled_token else Settlement.LOST
                future.set_result(outcome or by_token)

    def _forget(self, batch: int, waiter: tuple[str, asyncio.Future[Settlement]]) -> None:
        waiters = self._waiting.get(batch)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[batch]

    async def _listen(self) -> None:
        pauses = doubling_pauses(_PAUSE_SECONDS_FIRST, _PAUSE_SECONDS_MAX)
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(self._key)
                    await self._follow(subscription)
            except (RedisError, OSError) as error:
                self.trouble = str(error) or type(error).__name__
                if self.subscribed:  # once per outage
                    _LOG.warning("the subscription to settled batches was cut and is made again: %s", error)
            if self.subscribed:
                pauses = doubling_pauses(_PAUSE_SECONDS_FIRST, _PAUSE_SECONDS_MAX)
            self.subscribed = False
            await asyncio.sleep(next(pauses))

    async def _follow(self, subscription: Any) -> None:
        """Process messages until the connection ends, or the hash shows that messages are missing."""
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
        """Read the hash while callers wait. The message of a batch that was in the hash an interval ago is missing."""
        previous = 0
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
                continue  # callers have their own timeouts
            if found[0] is None:
                continue
            if previous > self.newest:
                self._stale = True
                self._resolve_lost(previous)
            previous, token = int(found[0]), found[1].decode()
            if previous in self._waiting:
                self._recent[previous] = token
                self._resolve(previous, None, token)
