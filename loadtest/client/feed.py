"""A subscriber of a channel's feed that hands over its frames as they are, for thousands at once and for records.

In: API addresses, a channel and a transport. Out: `FeedFrame`s, as many at a time as arrived; they are the same by
either transport, and so are the ids from which it continues.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import quote

import aiohttp

from stocktide.client.feed import (
    CONNECTION_ERRORS,
    SILENCE_SECONDS_MAX,
    TRANSPORTS,
    FeedFrame,
    FeedTransport,
    Portions,
)
from stocktide.client.http import key_headers

# Fixed, and short: a load test measures the API and not the pauses of its clients.
RECONNECT_SECONDS = 0.3


class FeedSubscriber:
    """Follows one channel until cancelled. A subclass handles what arrives.

    After a lost connection it subscribes again at the next of `apis`, with the id of the last frame that it handled.
    """

    def __init__(
        self,
        apis: Sequence[str],
        channel: str,
        connect_seconds_max: float = 10.0,
        transport: FeedTransport = "sse",
    ) -> None:
        self.channel = channel
        self.last_event_id: str | None = None
        self._apis = [api.rstrip("/") for api in apis]
        self._path = f"/v1/channels/{quote(channel, safe='')}"
        self._open = TRANSPORTS[transport]
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds_max, sock_read=SILENCE_SECONDS_MAX
        )

    async def run(self) -> None:
        """Subscribe, again and again."""
        async with aiohttp.ClientSession(timeout=self._timeout, headers=key_headers()) as session:
            while True:
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await self._connect(session)
                self.on_reconnect()
                self._apis.append(self._apis.pop(0))
                await asyncio.sleep(RECONNECT_SECONDS)

    def on_request(self) -> None:
        """Called before each request."""

    def on_connected(self) -> None:
        """Called when the feed is open."""

    def on_frames(self, frames: Sequence[FeedFrame]) -> None:
        """Called with whole frames."""

    def on_disconnected(self, reason: str) -> None:
        """Called when an open feed ended, or the subscriber was cancelled."""

    def on_reconnect(self) -> None:
        """Called before the pause that precedes the next attempt."""

    async def receive(self, portions: Portions) -> None:
        """Handle an open feed until it ends."""
        async for frames in portions:
            self.handle(frames)

    def handle(self, frames: Sequence[FeedFrame]) -> None:
        """Pass whole frames to `on_frames`, then move `last_event_id`."""
        self.on_frames(frames)
        ids = (frame.id.decode() for frame in reversed(frames) if frame.id is not None)
        self.last_event_id = next(ids, self.last_event_id)

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        self.on_request()
        async with self._open(session, self._apis[0] + self._path, self.last_event_id, {}) as portions:
            self.on_connected()
            reason = "the feed ended"
            try:
                await self.receive(portions)
            except CONNECTION_ERRORS as error:
                reason = repr(error)
            finally:
                self.on_disconnected(reason)
