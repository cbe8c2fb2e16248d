"""A channel's feed over Server-Sent Events or a WebSocket, which goes on where it was after a lost connection.

In: a client, a channel and a transport. Out: its events, in order: what a channel may sell with versions that grow
(`ChannelUpdate`) or changes of orders (`Order`), between `Synced`, `Resumed`, `Reset` and `Status`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import cycle
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import aiohttp
import msgspec

from .documents import ChannelUpdate, Order, Reset, Resumed, Status, Synced
from .errors import ApiError
from .http import ApiResponse, HttpClient, Retry, decode, refused

# The feed sends a heartbeat every 15 s: after a longer silence the connection is dead.
SILENCE_SECONDS_MAX = 20.0
# A frame holds one update; this bounds a feed that never ends one.
FRAME_BYTES_MAX = 1024 * 1024
# A server that is there answers a close frame within a round trip.
CLOSE_SECONDS_MAX = 2.0
CONNECT_SECONDS_MAX = 10.0
CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
# The pauses between connections; a feed connects for ever.
RECONNECT = Retry(pause_seconds=0.3, pause_seconds_max=10.0)
# After these codes the same connection would be refused again. A socket closes with the number.
_FINAL = {4400: "bad_message", 4401: "key_not_valid"}
_RETRIED = (408, 429)

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX)

_Update = TypeVar("_Update", bound=ChannelUpdate | Order)
_NO_QUERY: Mapping[str, Sequence[str]] = MappingProxyType({})
_NOTICES: dict[bytes, type[Synced] | type[Resumed] | type[Reset] | type[Status]] = {
    b"synced": Synced,
    b"resumed": Resumed,
    b"reset": Reset,
    b"status": Status,
}


class FeedFrame(NamedTuple):
    """One event of the feed. `event` is `stock`, `synced`, `status` or empty; `data` is JSON."""

    event: bytes
    data: bytes
    id: bytes | None


FeedTransport = Literal["sse", "websocket"]
# The frames of an open feed, in the portions in which they arrived.
Portions = AsyncIterator[Sequence[FeedFrame]]


class FeedClosed(ConnectionAbortedError):
    """The server closed a socket."""

    def __init__(self, close_code: int | None) -> None:
        super().__init__(f"the socket was closed with {close_code}")
        self.close_code = close_code


class FeedRefused(aiohttp.ClientResponseError):
    """The API refuses to open a feed."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(response.request_info, response.history, status=response.status, headers=response.headers)
        self.response = ApiResponse(response.status, body, response.headers)


class Feed(Generic[_Update]):
    """Follow it by `async for`: it connects, and after each lost connection again, until the loop is left.

    `last_event_id` is where it is; give it to a new feed to go on after a restart. `is_live`: all that was there before
    has arrived. Raises ApiError where the API refuses it for good, as for a key that is not valid.
    """

    def __init__(
        self,
        client: HttpClient,
        path: str,
        kind: type[_Update],
        query: Mapping[str, Sequence[str]] = _NO_QUERY,
        last_event_id: str | None = None,
        transport: FeedTransport = "sse",
    ) -> None:
        self.last_event_id = last_event_id
        self.is_live = False
        self._client = client
        self._path = path
        self._kind = kind
        self._query = query
        self._open = TRANSPORTS[transport]
        # The newest version of each SKU: what is not newer was sent before.
        self._versions: dict[str, int] = {}

    async def __aiter__(self) -> AsyncIterator[_Update | Synced | Resumed | Reset | Status]:
        attempt = 0
        for api in cycle(self._client.apis):
            self.is_live, retry_after = False, ""
            try:
                async with (
                    self._client.open_session(_TIMEOUT) as session,
                    self._open(session, api + self._path, self.last_event_id, self._query) as portions,
                ):
                    async for frames in portions:
                        attempt = 0
                        for frame in frames:
                            if (event := self._received(frame)) is not None:
                                yield event
            except CONNECTION_ERRORS as error:
                retry_after = _pause_after(error, self._path)
            attempt += 1
            await asyncio.sleep(RECONNECT.pause(attempt, retry_after))

    def _received(self, frame: FeedFrame) -> _Update | Synced | Resumed | Reset | Status | None:
        event: Any = None
        if frame.event in (b"stock", b"order"):
            event = decode(frame.data, self._kind, self._path)
            if not self._is_newer(event):
                event = None
        elif (notice := _NOTICES.get(frame.event)) is not None:
            event = decode(frame.data, notice, self._path)
            self.is_live = notice is Synced or (notice is Status and self.is_live)
            if notice is Reset:
                self._versions.clear()
                self.last_event_id = None
        elif frame.event == b"error":
            problem = decode(frame.data, dict[str, Any], self._path)
            if problem.get("code") in _FINAL.values():
                raise ApiError(f"{self._path} ended: {problem.get('detail')}", 200, problem)
        if frame.id is not None:
            self.last_event_id = frame.id.decode()
        return event  # type: ignore[no-any-return]

    def _is_newer(self, update: ChannelUpdate | Order) -> bool:
        if isinstance(update, Order):
            return True
        if update.version <= self._versions.get(update.sku, 0):
            return False
        self._versions[update.sku] = update.version
        return True


def _pause_after(error: BaseException, path: str) -> str:
    """The `Retry-After` of a connection that failed. Raises ApiError where the next one would fail too."""
    if isinstance(error, FeedClosed) and error.close_code in _FINAL:
        raise ApiError(f"{path}: {error}", 200, {"code": _FINAL[error.close_code]}) from error
    if not isinstance(error, aiohttp.ClientResponseError):
        return ""
    if 400 <= error.status < 500 and error.status not in _RETRIED:
        # The handshake of a socket has no body.
        response = error.response if isinstance(error, FeedRefused) else ApiResponse(error.status, b"")
        raise refused("GET", error.request_info.real_url.raw_path, response) from error
    return error.headers.get("Retry-After", "") if error.headers is not None else ""


@contextlib.asynccontextmanager
async def open_event_stream(
    session: aiohttp.ClientSession, url: str, last_event_id: str | None, query: Mapping[str, Sequence[str]] = _NO_QUERY
) -> AsyncIterator[Portions]:
    """The feed below `url` by Server-Sent Events. Raises one of CONNECTION_ERRORS, also when it is refused."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    params = [(name, value) for name, values in query.items() for value in values]
    async with session.get(f"{url}/feed", params=params, headers=headers) as response:
        if response.status >= 400:
            raise FeedRefused(response, await response.read())
        yield read_frames(response.content)


@contextlib.asynccontextmanager
async def open_socket(
    session: aiohttp.ClientSession, url: str, last_event_id: str | None, query: Mapping[str, Sequence[str]] = _NO_QUERY
) -> AsyncIterator[Portions]:
    """The same over a WebSocket, which offers per-message deflate as browsers do."""
    params = [(name, value) for name, values in query.items() for value in values]
    async with session.ws_connect(
        f"{url}/socket",
        params=[*params, *([] if last_event_id is None else [("last_event_id", last_event_id)])],
        # A timeout of each message would cost more than all else that is done with one.
        heartbeat=SILENCE_SECONDS_MAX,
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS_MAX),
        max_msg_size=FRAME_BYTES_MAX,
        decode_text=False,
        compress=15,
    ) as socket:
        yield read_messages(socket)


TRANSPORTS: dict[
    FeedTransport,
    Callable[
        [aiohttp.ClientSession, str, str | None, Mapping[str, Sequence[str]]], AbstractAsyncContextManager[Portions]
    ],
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
    raise FeedClosed(socket.close_code)


def parse_message(text: bytes) -> FeedFrame:
    """A frame from a message; what is none becomes an update that cannot be read."""
    try:
        message = _decode_message(text)
    except (msgspec.DecodeError, UnicodeError):
        return FeedFrame(b"stock", text, None)
    event_id = None if message.id is None else message.id.encode()
    return FeedFrame(message.event.encode(), bytes(message.data), event_id)
