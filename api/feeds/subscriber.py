"""One subscription to a channel: the snapshot or the missed updates, `synced`, then every update.

In: a channel log, a wait for the complete snapshot, and a `write` that may block. Out: frames in an order in which the
id of each frame is the offset vector of everything sent. A subscription has a position instead of a queue: a slow
client skips to the newest updates.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from stocktide.api.feeds.channel import ChannelLog, Cursor, encode_frame
from stocktide.api.feeds.hub import Hub
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
    """The client read nothing for STALL_SECONDS_MAX."""


class FeedSubscription:
    """Reads one channel log for one client; only the task of `run` writes."""

    def __init__(
        self,
        hub: Hub,
        channel: ChannelLog,
        since: OffsetVector | None,
        whole: Callable[[], Coroutine[Any, Any, None]],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        self._hub = hub
        self._channel = channel
        self._cursor = channel.resume(since) if since else Cursor(0, (0,) * hub.partitions)
        self._whole = whole
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds_max = stall_seconds_max
        # The position of `synced`, known when the snapshot is complete.
        self._checking: asyncio.Task[None] | None = None
        self._target: int | None = None
        self._notices: deque[bytes] = deque(maxlen=NOTICES_MAX)
        self._more = asyncio.Event()

    async def run(self, write: Write) -> None:
        """Write until the hub closes. Raises TooSlow, and the errors of `write` when the client has disconnected."""
        self._channel.readers.add(self._more.set)
        self._hub.add_listener(self._add_notice)
        checking = self._checking = asyncio.create_task(self._whole())
        checking.add_done_callback(lambda _: self._more.set())
        try:
            while not self._hub.closed:
                self._more.clear()
                chunk = self._next()
                if not chunk:
                    chunk = await self._wait()
                if chunk:
                    await self._write(write, chunk)
        finally:
            checking.cancel()
            self._hub.remove_listener(self._add_notice)
            self._channel.readers.discard(self._more.set)
            self._hub.forget(self._channel)

    def _next(self) -> bytes:
        """Everything that can be written now; it must be the next write."""
        channel = self._channel
        notices = list(self._notices)
        self._notices.clear()
        if self._checking is not None and self._checking.done():
            self._checking.result()
            self._checking, self._target = None, channel.end
        frames, self._cursor = channel.after(self._cursor, self._hub.position, WRITE_BYTES_MAX)
        if self._target is None or self._cursor.position < self._target:
            return b"".join(notices) + frames
        position, seen, _ = self._cursor
        # At the end everything that the hub has read was sent.
        self._cursor = Cursor(position, self._hub.position if position == channel.end else seen)
        self._target = None
        synced = encode_frame("synced", encode({"channel": channel.name}), self._cursor.seen)
        return b"".join(notices) + frames + synced

    async def _wait(self) -> bytes:
        """Wait for more; a heartbeat after a timeout."""
        try:
            async with asyncio.timeout(self._heartbeat_seconds):
                await self._more.wait()
        except TimeoutError:
            return HEARTBEAT
        return b""

    async def _write(self, write: Write, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds_max):
                await write(chunk)
        except TimeoutError as error:
            raise TooSlow from error

    def _add_notice(self, frame: bytes) -> None:
        self._notices.append(frame)
        self._more.set()
