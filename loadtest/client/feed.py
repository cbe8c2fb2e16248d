"""A channel's feed over Server-Sent Events or a WebSocket: frames, and a subscriber that reconnects where it left off.

In: API addresses, a channel and a transport. Out: `FeedFrame`s, as many at a time as arrived; they are the same by
either transport, and so are the ids from which it continues. Begin with `FeedSubscriber`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec

from stocktide.loadtest.client.key import key_headers

# The feed sends a heartbeat every 15 s: after a longer silence the connection is dead.
SILENCE_SECONDS_MAX = 20.0
RECONNECT_SECONDS = 0.3
# A frame holds one update; this bounds a feed that never ends one.
FRAME_BYTES_MAX = 1024 * 1024
# A server that is there answers a close frame within a round trip.
CLOSE_SECONDS_MAX = 2.0
CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)


class FeedFrame(NamedTuple):
    """One event of the feed. `event` is `stock`, `synced`, `status` or empty; `data` is JSON."""

    event: bytes
    data: bytes
    id: bytes | None


FeedTransport = Literal["sse", "websocket"]
# The frames of an open feed, in the portions in which they arrived.
Portions = AsyncIterator[Sequence[FeedFrame]]


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
        self._open = _OPEN[transport]
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
        async with self._open(session, self._apis[0] + self._path, self.last_event_id) as portions:
            self.on_connected()
            reason = "the feed ended"
            try:
                await self.receive(portions)
            except CONNECTION_ERRORS as error:
                reason = repr(error)
            finally:
                self.on_disconnected(reason)


@contextlib.asynccontextmanager
async def open_event_stream(
    session: aiohttp.ClientSession, channel_url: str, last_event_id: str | None
) -> AsyncIterator[Portions]:
    """A channel's feed by Server-Sent Events. Raises one of CONNECTION_ERRORS, also when it is refused."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with session.get(f"{channel_url}/feed", headers=headers, raise_for_status=True) as response:
        yield read_frames(response.content)


@contextlib.asynccontextmanager
async def open_socket(
    session: aiohttp.ClientSession, channel_url: str, last_event_id: str | None
) -> AsyncIterator[Portions]:
    """The same over a WebSocket, which offers per-message deflate as browsers do."""
    async with session.ws_connect(
        f"{channel_url}/socket",
        params={} if last_event_id is None else {"last_event_id": last_event_id},
        # A timeout of each message would cost more than all else that is done with one.
        heartbeat=SILENCE_SECONDS_MAX,
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS_MAX),
        max_msg_size=FRAME_BYTES_MAX,
        decode_text=False,
        compress=15,
    ) as socket:
        yield read_messages(socket)


_OPEN: dict[
    FeedTransport, Callable[[aiohttp.ClientSession, str, str | None], AbstractAsyncContextManager[Portions]]
] = {"sse": open_event_stream, "websocket": open_socket}


async def read_frames(content: aiohttp.StreamReader) -> AsyncIterator[list[FeedFrame]]:
    """The frames of an open feed, in the portions in which they arrived; an incomplete last one is dropped."""
    rest = b""
    async for chunk in content.iter_any():
        rest += chunk
        if b"\r" in rest:
            rest = rest.replace(b"\r\n", b"\n")
        *whole, rest = rest.split(b"\n\n")
        if len(rest) > FRAME_BYTES_MAX:
            return
        if whole:
            yield [parse_frame(frame) for frame in whole]


def parse_frame(text: bytes) -> FeedFrame:
    """A frame from its lines; comments and other fields are skipped."""
    event, data, event_id = b"", b"", None
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data = b"\n".join((data, value)) if data else value
        elif name == b"event":
            event = value
        elif name == b"id":
            event_id = value
    return FeedFrame(event, data, event_id)


class _Message(msgspec.Struct, gc=False):
    event: str
    data: msgspec.Raw
    id: str | None = None


_decode_message = msgspec.json.Decoder(_Message).decode


async def read_messages(socket: aiohttp.ClientWebSocketResponse[Literal[False]]) -> Portions:
    """The frames of an open socket. Raises ConnectionError with the code with which the server closes it."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        yield [parse_message(message.data)]
    raise ConnectionAbortedError(f"the socket was closed with {socket.close_code}")


def parse_message(text: bytes) -> FeedFrame:
    """A frame from a message; what is none becomes an update that cannot be read."""
    try:
        message = _decode_message(text)
    except (msgspec.DecodeError, UnicodeError):
        return FeedFrame(b"stock", text, None)
    event_id = None if message.id is None else message.id.encode()
    return FeedFrame(message.event.encode(), bytes(message.data), event_id)
