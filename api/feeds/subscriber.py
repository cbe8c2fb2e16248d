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
from typing import Any, NoReturn

from stocktide.api.feeds.channel import Backlog, ChannelLog, Cursor, View
from stocktide.api.feeds.close_codes import FeedEnded, ShuttingDown, StreamRecreated, TooSlow
from stocktide.api.feeds.frames import SSE, FrameFormat
from stocktide.api.feeds.hub import Hub, TopicHub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.selection import EVERYTHING, Selection
from stocktide.streams.contract.documents import FeedPosition, encode

Write = Callable[[bytes], Awaitable[None]]

# Large enough for a fast snapshot, small enough to detect a slow client.
WRITE_BYTES_MAX = 64 * 1024
# Proxies close a connection that is idle for a minute or less.
HEARTBEAT_SECONDS = 15.0
# A client that reads nothing for this long is disconnected.
STALL_SECONDS_MAX = 20.0
# Notices are rare; a slow client gets the newest ones.
NOTICES_MAX = 16


class Subscription(ABC):
    """Writes what a hub has for one client; only the task of `run` writes."""

    def __init__(
        self, hub: TopicHub, heartbeat_seconds: float, stall_seconds_max: float, frames: FrameFormat = SSE
    ) -> None:
        self._hub = hub
        self._frames = frames
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds_max = stall_seconds_max
        self._notices: deque[bytes] = deque(maxlen=NOTICES_MAX)
        self._more = asyncio.Event()
        self._beginning = hub.beginnings
        self._reason: FeedEnded | None = None

    async def run(self, write: Write) -> NoReturn:
        """Write until the feed ends. Raises FeedEnded with the reason, which may be that of `end`, and the errors of
        `write` when the client has disconnected."""
        self._hub.add_listener(self._add_notice)
        try:
            await self._run(write)
        finally:
            self._hub.remove_listener(self._add_notice)
        if self._reason is not None:
            raise self._reason
        raise ShuttingDown if self._hub.closed else StreamRecreated

    def end(self, reason: FeedEnded) -> None:
        """Let `run` raise the reason, after the write that is in progress."""
        self._reason = reason
        self._more.set()

    def wake(self) -> None:
        """There is something to write."""
        self._more.set()

    @abstractmethod
    async def _run(self, write: Write) -> None:
        """Prepare, write with `_follow`, clean up."""

    @abstractmethod
    def _next(self) -> bytes:
        """Everything that can be written now; it must be the next write. If it is empty and `_more` is set, there may
        be more after a turn of the others."""

    async def _follow(self, write: Write) -> None:
        while not self._has_ended:
            self._more.clear()
            chunk = self._next()
            if not chunk and self._more.is_set():
                await asyncio.sleep(0)
                continue
            if not chunk:
                chunk = await self._wait()
            if chunk:
                await self._write(write, chunk)

    @property
    def _has_ended(self) -> bool:
        """A hub that has restarted continues no feed: the client reconnects, and gets `resumed` or `reset`."""
        return self._hub.closed or self._hub.beginnings != self._beginning or self._reason is not None

    def _heartbeat(self) -> bytes:
        return self._frames.heartbeat

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

    def _add_notice(self, event: str, data: bytes) -> None:
        self._notices.append(self._frames.event(event, data))
        self._more.set()

    def _take_notices(self) -> bytes:
        notices = b"".join(self._notices)
        self._notices.clear()
        return notices


class FeedSubscription(Subscription):
    """Reads one channel log for one client, or those SKUs of it that the client has selected.

    A selection begins at the end of the log, and what lies before is its backlog: so a client that selects more gets
    the newest updates of just that. While there is a backlog frames have no id, because an id says that everything of
    the selection below it was sent.
    """

    def __init__(
        self,
        hub: Hub,
        channel: ChannelLog,
        since: OffsetVector | None,
        whole: Callable[[], Coroutine[Any, Any, None]],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stall_seconds_max: float = STALL_SECONDS_MAX,
        frames: FrameFormat = SSE,
        selection: Selection = EVERYTHING,
        answers: Callable[[], bytes] = bytes,
    ) -> None:
        super().__init__(hub, heartbeat_seconds, stall_seconds_max, frames)
        self._channels = hub
        self._channel = channel
        self._answers = answers
        self.selection = selection
        self._backlogs: deque[Backlog] = deque()
        self._whole = whole
        # The position of `synced`, known when the snapshot is complete.
        self._checking: asyncio.Task[None] | None = None
        self._target: int | None = None
        if since is not None:
            self._cursor = channel.resume(since)
        elif selection.is_everything:
            self._cursor = Cursor(0, (0,) * hub.partitions)
        else:
            self._cursor = Cursor(channel.end, hub.position)
            self._add_backlog(selection)
        self._view = self._make_view()

    def select(self, added: Selection) -> None:
        """Send also what `added` has, from its newest updates on, and then `synced` again."""
        if not self.selection.is_everything:
            self._add_backlog(added)
        self.selection = self.selection.plus(added)
        self._view = self._make_view()
        if self._checking is not None:
            self._checking.cancel()
        self._check_whole()
        self._more.set()

    def deselect(self, removed: Selection) -> None:
        """Send no more of `removed`, unless the rest of the selection has it."""
        self.selection = self.selection.minus(removed)
        self._view = self._make_view()

    async def _run(self, write: Write) -> None:
        self._channel.readers.add(self._more.set)
        self._check_whole()
        try:
            await self._follow(write)
        finally:
            if self._checking is not None:
                self._checking.cancel()
            self._channel.readers.discard(self._more.set)
            self._channels.forget(self._channel)

    def _check_whole(self) -> None:
        self._target = None
        self._checking = asyncio.create_task(self._whole())
        self._checking.add_done_callback(lambda _: self._more.set())

    def _add_backlog(self, added: Selection) -> None:
        prefixes = Selection(prefixes=added.prefixes) if added.prefixes else None
        # A client that resumes is not sent all rows after its cursor.
        end = self._cursor.position if self._cursor.since is None else self._channel.end
        self._backlogs.append(Backlog(self._channels.numbers(added.skus), prefixes, end))

    def _make_view(self) -> View:
        chosen = self.selection
        selection = None if chosen.is_everything else chosen
        return View(self._frames, self._hub.ids.head, chosen.id_tail, selection, not self._backlogs)

    def _next(self) -> bytes:
        channel = self._channel
        notices = self._answers() + self._take_notices()
        if self._checking is not None and self._checking.done():
            self._checking.result()
            self._checking, self._target = None, channel.end
        if self._backlogs:
            frames = self._next_of_backlog()
            if frames or self._backlogs:
                self._more.set()
                return notices + frames
        frames, self._cursor = channel.after(self._cursor, self._hub.position, WRITE_BYTES_MAX, self._view)
        if self._cursor.position < channel.end:
            self._more.set()
        if self._target is None or self._cursor.position < self._target:
            return notices + frames
        return notices + frames + self._synced()

    def _next_of_backlog(self) -> bytes:
        backlog = self._backlogs[0]
        frames = self._channel.earlier(backlog, WRITE_BYTES_MAX, self._frames)
        if backlog.is_done:
            self._backlogs.popleft()
            self._view = self._make_view()
        return frames

    def _synced(self) -> bytes:
        position, seen, _ = self._cursor
        # At the end everything that the hub has read was sent.
        self._cursor = Cursor(position, self._hub.position if position == self._channel.end else seen)
        self._target = None
        frame_id = self._hub.ids.format(self._cursor.seen, self._view.id_tail)
        return self._frames.event("synced", encode(FeedPosition(self._channel.name)), frame_id)
