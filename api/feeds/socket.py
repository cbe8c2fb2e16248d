"""`GET /v1/channels/{channel}/socket`: a channel's stock over a WebSocket.

In: a channel, a selection and a last id as of the feed (`sse.py`), and the client's messages (`socket_messages.py`).
Out: the events of the feed, each a text message `{"event":…,"id":…,"data":…}`; `subscribed` and `rejected` as answers;
a close frame with a code of `close_codes.py`.

One task writes a socket, another reads it. The reader passes answers by a bounded queue and changes the subscription;
it never writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import NoReturn

from aiohttp import WSMessage, WSMsgType, web

from stocktide.api import problems
from stocktide.api.feeds.close_codes import CloseCode, FeedEnded, TooSlow
from stocktide.api.feeds.connections import FeedConnection
from stocktide.api.feeds.frames import DEFLATED_WEBSOCKET, WEBSOCKET, close_reason, may_deflate
from stocktide.api.feeds.selection import EVERYTHING, Selection, check_size
from stocktide.api.feeds.socket_messages import Rejected, Subscribe, Subscribed, Unsubscribe, read_message, reject
from stocktide.api.feeds.sse import ChannelFeeds
from stocktide.api.feeds.stream import LINGER_SECONDS
from stocktide.api.feeds.subscriber import HEARTBEAT_SECONDS, FeedSubscription
from stocktide.api.requests import parse_query
from stocktide.streams.contract.documents import encode

log = logging.getLogger(__name__)

# Most clients that send a message do so at once: the feed waits this long for it, so that a client that wants few SKUs
# is not sent the whole channel first.
FIRST_MESSAGE_SECONDS = 0.25
# 1,000 names of 64 characters. aiohttp closes with 1009 what is larger.
MESSAGE_BYTES_MAX = 64 * 1024
# A client that selects by message as its user scrolls sends a few per second.
MESSAGES_PER_SECOND = 5.0
MESSAGES_BURST = 50.0
# The reader waits when the client does not take the answers.
ANSWERS_MAX = 16
# A client that answers no ping for this long reads nothing, or is gone.
PONG_SECONDS_MAX = 30.0
# A client answers a close frame within a round trip.
CLOSE_SECONDS_MAX = 2.0


class _Restart(FeedEnded):
    """The feed starts again, with another selection or id; the socket stays open."""

    def __init__(self) -> None:
        super().__init__(CloseCode.STREAM_RECREATED, "the client has selected anew")


class SocketHandler:
    """The handler of sockets."""

    def __init__(
        self,
        feeds: ChannelFeeds,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        pong_seconds_max: float = PONG_SECONDS_MAX,
    ) -> None:
        self._feeds = feeds
        self._heartbeat_seconds = heartbeat_seconds
        self._pong_seconds_max = pong_seconds_max

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Serve a socket until the client or the server closes it."""
        socket = web.WebSocketResponse(
            compress=may_deflate(request.headers.get("Sec-WebSocket-Extensions", "")),
            autoping=False,
            autoclose=False,
            timeout=CLOSE_SECONDS_MAX,
            max_msg_size=MESSAGE_BYTES_MAX,
        )
        if not socket.can_prepare(request).ok:
            detail = "This path is a WebSocket; `/feed` is the same by Server-Sent Events."
            return problems.problem_response(426, "upgrade_required", detail, {"Upgrade": "websocket"})
        selection = await self._feeds.check(request)
        if not isinstance(selection, Selection):
            return selection
        with self._feeds.open_feeds.opened(request) as connection:
            await socket.prepare(request)
            session = SocketSession(
                self._feeds, connection, socket, selection, self._heartbeat_seconds, self._pong_seconds_max
            )
            await session.run()
        return socket


class SocketSession:
    """One open socket."""

    def __init__(
        self,
        feeds: ChannelFeeds,
        connection: FeedConnection,
        socket: web.WebSocketResponse,
        selection: Selection,
        heartbeat_seconds: float,
        pong_seconds_max: float,
    ) -> None:
        self._feeds = feeds
        self._heartbeat_seconds = heartbeat_seconds
        self._pong_seconds_max = pong_seconds_max
        self._connection = connection
        self._request = connection.request
        self._socket = socket
        self._name = self._request.match_info["channel"]
        # As the handshake has agreed.
        self._frames = DEFLATED_WEBSOCKET if socket.compress else WEBSOCKET
        query = parse_query(self._request)
        self._last_event_id = query.get("last_event_id")
        # With what the next subscription starts.
        self._selection = selection
        # Until the first message; a query that names something says as much as a message.
        self._is_default = selection == EVERYTHING and self._last_event_id is None
        self._first_message = asyncio.Event()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue(ANSWERS_MAX)
        self._subscription: FeedSubscription | None = None
        self._started = asyncio.Event()
        # The time of the first ping that is not answered.
        self._pinged_at: float | None = None
        self._clock = asyncio.get_running_loop().time
        self._allowance, self._allowed_at = MESSAGES_BURST, self._clock()
        self._is_closed_by_client = False

    async def run(self) -> None:
        """Serve it, and close it."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write_feed()
        except FeedEnded as error:
            reason = error
        except ConnectionError:
            return  # the client has disconnected
        except Exception:
            log.exception("the socket of %s failed", self._name)
            reason = FeedEnded(CloseCode.INTERNAL_ERROR, "a fault of the server")
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        await self._close(reason)

    async def _write_feed(self) -> NoReturn:
        """Write until the feed ends. Raises FeedEnded."""
        if status := self._feeds.start.status(self._frames):
            await self._write(status)
        if self._is_default:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._first_message.wait(), FIRST_MESSAGE_SECONDS)
        while True:
            with contextlib.suppress(_Restart):
                await self._run_subscription()

    async def _run_subscription(self) -> None:
        self._connection.check()
        selection, given = self._selection, self._last_event_id
        await self._write_answers()
        since = await self._feeds.start.resume(
            self._name, given, selection.id_tail, self._frames, self._write, self._connection.check
        )
        if self._selection is not selection or self._last_event_id != given:
            raise _Restart
        subscription = self._subscription = self._feeds.subscribe(
            self._name, selection, self._frames, since, self._heartbeat_seconds, self._take_answers
        )
        self._connection.attach(subscription)
        self._started.set()
        try:
            await subscription.run(self._write)
        finally:
            self._started.clear()
            self._subscription = None

    async def _write(self, chunk: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        if chunk == self._frames.heartbeat:
            if self._pinged_at is None:
                self._pinged_at = self._clock()
            elif self._clock() - self._pinged_at >= self._pong_seconds_max:
                raise TooSlow(f"no ping was answered for {self._pong_seconds_max:.0f} seconds")
        transport.write(chunk)
        await self._request.writer.drain()

    def _take_answers(self) -> bytes:
        taken = [self._answers.get_nowait() for _ in range(self._answers.qsize())]
        return b"".join(taken)

    async def _write_answers(self) -> None:
        if answers := self._take_answers():
            await self._write(answers)

    async def _read(self) -> None:
        """Handle the client's messages until it closes; the reason why the feed ends is passed to the writer."""
        try:
            while True:
                message = await self._socket.receive()
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    self._end(FeedEnded(CloseCode.SHUTTING_DOWN, "the client has closed"), is_closed=True)
                    return
                self._pinged_at = None
                await self._handle(message)
        except FeedEnded as reason:
            self._end(reason)
        except Exception:
            log.exception("reading the socket of %s failed", self._name)
            self._end(FeedEnded(CloseCode.INTERNAL_ERROR, "a fault of the server"))

    def _end(self, reason: FeedEnded, is_closed: bool = False) -> None:
        self._is_closed_by_client = is_closed
        self._connection.end(reason)
        self._first_message.set()

    async def _handle(self, message: WSMessage) -> None:
        if message.type is WSMsgType.PONG:
            return
        self._count_message()
        if message.type is WSMsgType.PING:
            await self._answers.put(self._frames.pong(bytes(message.data)))
            self._wake()
            return
        if message.type is not WSMsgType.TEXT:
            raise FeedEnded(CloseCode.BAD_MESSAGE, "messages are text")
        wanted = read_message(message.data)
        is_first, is_default = not self._first_message.is_set(), self._is_default
        if isinstance(wanted, Rejected):
            await self._answer("rejected", wanted)
        elif isinstance(wanted, Unsubscribe):
            await self._unsubscribe(wanted)
        elif wanted.last_event_id is not None and not is_first:
            detail = "only a client's first message resumes"
            await self._answer("rejected", reject(wanted.id, "not_first_message", detail, "last_event_id"))
        else:
            await self._subscribe(wanted, is_default)
        self._first_message.set()

    async def _subscribe(self, wanted: Subscribe, is_default: bool) -> None:
        added = wanted.selection
        selection = added if is_default else self._selection.plus(added)
        if (wrong := check_size(selection)) is not None:
            await self._answer("rejected", reject(wanted.id, wrong.code, wrong.detail))
            return
        self._is_default = False
        starts_anew = is_default or wanted.last_event_id is not None
        if not starts_anew:
            await self._started.wait()
        self._selection = selection
        if wanted.last_event_id is not None:
            self._last_event_id = wanted.last_event_id
        await self._answer_subscribed(wanted)
        if self._subscription is None:
            return  # the feed starts with it, or starts anew
        if starts_anew:
            self._subscription.end(_Restart())
        else:
            self._subscription.select(added)

    async def _unsubscribe(self, wanted: Unsubscribe) -> None:
        removed = wanted.selection if len(wanted.selection) else self._selection
        unknown = removed.minus(self._selection)
        if len(unknown):
            name = min(unknown.skus | unknown.prefixes)
            await self._answer("rejected", reject(wanted.id, "not_subscribed", f"`{name}` is not subscribed"))
            return
        await self._started.wait()
        self._selection = self._selection.minus(removed)
        self._is_default = False
        if self._subscription is not None:
            self._subscription.deselect(removed)
        await self._answer_subscribed(wanted)

    async def _answer_subscribed(self, wanted: Subscribe | Unsubscribe) -> None:
        chosen = self._selection
        await self._answer("subscribed", Subscribed(wanted.id, self._name, len(chosen.skus), len(chosen.prefixes)))

    async def _answer(self, event: str, document: Subscribed | Rejected) -> None:
        await self._answers.put(self._frames.event(event, encode(document)))
        self._wake()

    def _wake(self) -> None:
        if self._subscription is not None:
            self._subscription.wake()

    def _count_message(self) -> None:
        now = self._clock()
        self._allowance = min(MESSAGES_BURST, self._allowance + (now - self._allowed_at) * MESSAGES_PER_SECOND)
        self._allowed_at = now
        self._allowance -= 1
        if self._allowance < 0:
            detail = f"more than {MESSAGES_PER_SECOND:.0f} messages per second"
            raise FeedEnded(CloseCode.TOO_MANY_MESSAGES, detail)

    async def _close(self, reason: FeedEnded) -> None:
        transport = self._request.transport
        if self._is_closed_by_client or transport is None or transport.is_closing():
            return
        if reason.code is not CloseCode.SHUTTING_DOWN:
            log.warning("a socket of %s is closed, %s: %s", self._name, reason.name, reason)
        transport.write(self._take_answers())
        if reason.code is CloseCode.TOO_SLOW:
            # Written directly, because a client that does not read does not answer.
            transport.write(self._frames.close(reason.code, str(reason)))
            transport.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
            return
        await self._socket.close(code=reason.code, message=close_reason(str(reason)), drain=False)
