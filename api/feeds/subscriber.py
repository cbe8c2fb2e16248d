"""One subscriber of a channel: the snapshot or what it missed, `synced`, then every update.

In: a channel of the hub, word of when the snapshot is whole, and a `write` that may take its time. Out: frames, in an
order in which each frame's id says truly what was seen. A reader holds a position, never a queue: what it is too slow
for, it skips to the newest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import orjson

from stocktide.api.feeds.channel import ChannelLog
from stocktide.api.feeds.hub import Hub, encode_frame
from stocktide.api.feeds.offset_vector import OffsetVector, format_offsets, merge_offsets, parse_offsets
from stocktide.errors import StocktideError

Write = Callable[[bytes], Awaitable[None]]

# One write: large enough that a snapshot is fast, small enough that a slow client is noticed.
WRITE_BYTES_MAX = 64 * 1024
# Proxies drop a connection that is silent for a minute or less.
HEARTBEAT_SECONDS = 15.0
# A client that takes nothing for this long is gone or hopeless.
STALL_SECONDS_MAX = 20.0
# Notices are rare; a client that missed more of them than this is told the newest.
NOTICES_MAX = 16

HEARTBEAT = b": heartbeat\n\n"


class TooSlow(StocktideError):
    """The client took nothing for STALL_SECONDS_MAX."""


class FeedSubscription:
    """Reads one channel for one client; one task writes, and nothing else does."""

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
        self._since = since
        self._whole = whole
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds_max = stall_seconds_max
        self._position = 0
        # What is sent before `synced`: known once the snapshot is whole.
        self._checking: asyncio.Task[None] | None = None
        self._target: int | None = None
        self._notices: deque[bytes] = deque(maxlen=NOTICES_MAX)
        self._more = asyncio.Event()

    async def run(self, write: Write) -> None:
        """Write until the hub closes. Raises TooSlow, and what `write` raises where the client is gone."""
        self._channel.readers.add(self._more.set)
        self._hub.listen(self._notice)
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
            self._hub.unlisten(self._notice)
            self._channel.readers.discard(self._more.set)
            self._hub.forget(self._channel)

    def _next(self) -> bytes:
        """All that can be written now; between here and the write nothing may come in between."""
        channel = self._channel
        notices = list(self._notices)
        self._notices.clear()
        if self._checking is not None and self._checking.done():
            self._checking.result()
            self._checking, self._target = None, channel.end
        frames, self._position = channel.after(self._position, WRITE_BYTES_MAX, self._since)
        if self._since is not None:
            frames = [_at_least(frame, self._since) for frame in frames]
        if self._target is not None and self._position >= self._target:
            # Everything that the hub has read was sent, so its position is a true id: only at the end.
            cut = self._hub.position if self._position == channel.end else None
            frames.append(encode_frame("synced", orjson.dumps({"channel": channel.name}), cut))
            self._target = self._since = None
        return b"".join(notices + frames)

    async def _wait(self) -> bytes:
        """Wait for more; a heartbeat where nothing comes."""
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

    def _notice(self, frame: bytes) -> None:
        self._notices.append(frame)
        self._more.set()


def _at_least(frame: bytes, since: OffsetVector) -> bytes:
    """The frame under an id that does not fall behind what its reader had before it came here."""
    head, _, rest = frame.partition(b"\n")
    cut = parse_offsets(head.removeprefix(b"id: ").decode(), len(since))
    assert cut is not None
    return f"id: {format_offsets(merge_offsets(cut, since))}\n".encode() + rest
