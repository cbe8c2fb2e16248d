"""A storefront that subscribes to its channel by Server-Sent Events, and comes back with what it has seen.

In: the API's addresses and a channel. Out: records of every connection, every update and every `synced`, to whoever
keeps the history.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import quote

import aiohttp
import msgspec

from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    Subscribed,
    Synced,
    UnreadableRow,
    Unsubscribed,
    UpdateReceived,
)

CONNECT_SECONDS_MAX = 2.0
# The feed says something every 15 s, if only that it lives: silent for longer, the line is dead.
SILENCE_SECONDS_MAX = 20.0
# The feed itself asks for a second; a tester wants to see what is missed by those who are faster.
RECONNECT_SECONDS = 0.3
# One line holds one update; this bounds a feed that never ends its line.
LINE_BYTES_MAX = 1024 * 1024

_UPDATE = msgspec.json.Decoder(ChannelUpdateView)
_GONE = (aiohttp.ClientError, TimeoutError, OSError)
Frame = dict[bytes, bytes]


class RecordingSubscriber:
    """Follows one channel until it is stopped. `name` is unique in the run; a lost connection is made anew, each time
    with the next of `apis`, so that a dead one is passed over."""

    def __init__(
        self, name: str, channel: str, apis: Sequence[str], clock: HistoryClock, add: Callable[[HistoryRecord], None]
    ) -> None:
        self.name = name
        self._path = f"/v1/channels/{quote(channel, safe='')}/feed"
        self._channel = channel
        self._apis = [api.rstrip("/") for api in apis]
        self._clock = clock
        self._add = add
        self._last_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Subscribe."""
        self._task = asyncio.create_task(self._follow(), name=f"subscriber {self.name}")

    async def stop(self) -> None:
        """Leave for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._add(Unsubscribed(self._clock.now(), self.name, "the run is over", left=True))

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LINE_BYTES_MAX) as session:
            while True:
                with contextlib.suppress(*_GONE):
                    await self._connect(session)
                self._apis.append(self._apis.pop(0))
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        asked_at = self._clock.now()
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        async with session.get(self._apis[0] + self._path, headers=headers) as response:
            if response.status != 200:
                return
            self._add(Subscribed(self._clock.now(), self.name, self._channel, self._last_id, asked_at))
            why = "the feed ended"
            try:
                async for frame in _frames(response.content):
                    self._take(frame)
            except _GONE as error:
                why = repr(error)
            finally:
                self._add(Unsubscribed(self._clock.now(), self.name, why))

    def _take(self, frame: Frame) -> None:
        event = frame.get(b"event")
        if event == b"stock":
            self._see(frame.get(b"data", b""))
        elif event == b"synced":
            self._add(Synced(self._clock.now(), self.name))
        # Only a frame that came whole moves the mark.
        if (id_ := frame.get(b"id")) is not None:
            self._last_id = id_.decode()

    def _see(self, data: bytes) -> None:
        now = self._clock.now()
        try:
            self._add(UpdateReceived(now, self.name, _UPDATE.decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._add(UnreadableRow(now, -1, -1, f"feed of {self._channel}", str(error)))


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[Frame]:
    """The stream's frames; what a broken connection leaves of one is none."""
    frame: Frame = {}
    while line := await content.readline():
        if text := line.rstrip(b"\r\n"):
            name, _, value = text.partition(b": ")
            frame[name] = value
        elif line.endswith(b"\n"):
            yield frame
            frame = {}
