"""One subscription to a channel: the snapshot or the missed updates, `synced`, then every update; and what all
subscriptions have in common.

In: a channel log, a wait for the complete snapshot, and a `write` that may block. Out: frames in an order in which the
id of each frame is the offset vector of everything sent. A subscription has a position instead of a queue: a slow
client skips to the newest updates.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from stocktide.api.feeds.channel import ChannelLog, Cursor, encode_frame
from stocktide.api.feeds.hub import Hub, TopicHub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.errors import StocktideError
from stocktide.streams.contract.documents import encode

Write = Callable[[bytes], Awaitable[None]]

# Large enough for a fast snapshot, small enough to detect a slow client.
WRITE_BYTES_MAX = 64 * 1024
# Proxies close a connection that is idle for a minute or less.
HEARTBEAT_SECONDS = 15.0
# A client that reads nothing for this long is disconnected.
STALL_SECONDS_MAX = 20.0
# Notices are rare; a slow client gets the newest ones.
NOTICES_MAX = 16

HEARTBEAT = b": heartbeat\n\n"


class TooSlow(StocktideError):
    """The client reads too slowly; the text has the limit."""


class Subscription(ABC):
    """Writes what a hub has for one client; only the task of `run` writes."""

    def __init__(self, hub: TopicHub, heartbeat_seconds: float, stall_seconds_max: float) -> None:
        self._hub = hub
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds_max = stall_seconds_max
        self._notices: deque[bytes] = deque(maxlen=NOTICES_MAX)
        self._more = asyncio.Event()

    async def run(self, write: Write) -> None:
        """Write until the hub closes. Raises TooSlow, and the errors of `write` when the client has disconnected."""
        self._hub.add_listener(self._add_notice)
        try:
            await self._run(write)
        finally:
            self._hub.remove_listener(self._add_notice)

    @abstractmethod
    async def _run(self, write: Write) -> None:
        """Prepare, write with `_follow`, clean up."""

    @abstractmethod
    def _next(self) -> bytes:
        """Everything that can be written now; it must be the next write."""

    async def _follow(self, write: Write) -> None:
        while not self._has_ended:
            self._more.clear()
            chunk = self._next()
            if not chunk:
                chunk = await self._wait()
            if chunk:
                await self._write(write, chunk)

    @property
    def _has_ended(self) -> bool:
        return self._hub.closed

    def _heartbeat(self) -> bytes:
        return HEARTBEAT

    async def _wait(self) -> bytes:
        """Wait for more; a heartbeat after a timeout."""
        try:
            async with asyncio.timeout(self._heartbeat_seconds):
                await self._more.wait()
        except TimeoutError:
            return self._heartbeat()
        return b""

    async def _write(self, write: Write, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds_max):
                await write(chunk)
        except TimeoutError as error:
            raise TooSlow(f"nothing was read for {self._stall_seconds_max:.0f} seconds") from error

    def _add_notice(self, frame: bytes) -> None:
        self._notices.append(frame)
        self._more.set()

    def _take_notices(self) -> bytes:
        notices = b"".join(self._notices)
        self._notices.clear()
        return notices


class FeedSubscription(Subscription):
    """Reads one channel log for one client."""

    def __init__(
        self,
        hub: Hub,
        channel: ChannelLog,
        since: OffsetVector | None,
        whole: Callable[[], Coroutine[Any, Any, None]],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        super().__init__(hub, heartbeat_seconds, stall_seconds_max)
        self._channels = hub
        self._channel = channel
        self._cursor = channel.resume(since) if since else Cursor(0, (0,) * hub.partitions)
        self._whole = whole
        # The position of `synced`, known when the snapshot is complete.
        self._checking: asyncio.Task[None] | None = None
        self._target: int | None = None

    async def _run(self, write: Write) -> None:
        self._channel.readers.add(self._more.set)
        checking = self._checking = asyncio.create_task(self._whole())
        checking.add_done_callback(lambda _: self._more.set())
        try:
            await self._follow(write)
        finally:
            checking.cancel()
            self._channel.readers.discard(self._more.set)
            self._channels.forget(self._channel)

    def _next(self) -> bytes:
        channel = self._channel
        notices = self._take_notices()
        if self._checking is not None and self._checking.done():
            self._checking.result()
            self._checking, self._target = None, channel.end
        frames, self._cursor = channel.after(self._cursor, self._hub.position, WRITE_BYTES_MAX)
        if self._target is None or self._cursor.position < self._target:
            return notices + frames
        position, seen, _ = self._cursor
        # At the end everything that the hub has read was sent.
        self._cursor = Cursor(position, self._hub.position if position == channel.end else seen)
        self._target = None
        synced = encode_frame("synced", encode({"channel": channel.name}), self._cursor.seen)
        return notices + frames + synced
