"""One connection of a feed by Server-Sent Events: the greeting, what became of the client's id, then what its
subscription writes; and what this has in common with a WebSocket.

In: a request, and with `Last-Event-ID` (or `?last_event_id=`) the last id of the client. Out: `event: resumed` if the
feed continues from there, `event: reset` if it cannot and restarts; the frames of the subscription; `event: status`
when readiness changes; `event: error` before the server ends a feed (`close_codes.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import randrange

from aiohttp import web

from stocktide.api.access.streams import open_stream
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.close_codes import CloseCode, FeedEnded
from stocktide.api.feeds.connections import FeedConnection, OpenFeeds
from stocktide.api.feeds.frames import SSE, FrameFormat
from stocktide.api.feeds.hub import TopicHub
from stocktide.api.feeds.offset_vector import UNKNOWN_ID, OffsetVector, UnusableId
from stocktide.api.feeds.subscriber import Subscription, Write
from stocktide.api.requests import parse_query
from stocktide.streams.contract.documents import FeedError, FeedPosition, FeedReset, Status, encode

log = logging.getLogger(__name__)

# More subscribers would exhaust the file descriptors; they are refused with 503.
READERS_MAX = 10_000
# The time for a disconnected client to read the error.
LINGER_SECONDS = 5.0
# The pause of a browser before it reconnects.
RECONNECT_MS = 1_000
# Clients of a process that stops come back within this time and the pause, not all in the same instant.
RECONNECT_SPREAD_MS = 2_000

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would buffer frames.
    "X-Accel-Buffering": "no",
}

# The vector to continue from, or None → the subscription.
Subscribe = Callable[[OffsetVector | None], Subscription]


class FeedStart:
    """Starts the feeds of one hub: waits, answers a client's id, and makes the subscription."""

    def __init__(self, hub: TopicHub, catch_up: CatchUp, status: Callable[[], Status]) -> None:
        self._hub = hub
        self._catch_up = catch_up
        self._status = status

    def status(self, frames: FrameFormat) -> bytes:
        """The status, unless it is ready."""
        status = self._status()
        return b"" if status.ready else frames.event("status", encode(status))

    async def resume(
        self, name: str, given: str | None, id_tail: str, frames: FrameFormat, write: Write, check: Callable[[], None]
    ) -> OffsetVector | None:
        """The vector from which the feed continues after the id `given`, or None for a snapshot; `resumed` or `reset`
        was written. `check` raises if the feed is to end meanwhile."""

        async def send_heartbeat() -> None:
            check()
            await write(frames.heartbeat)

        while True:
            beginnings = self._hub.beginnings
            seen = self._hub.ids.parse(given, self._hub.partitions, id_tail) if given else None
            vector = None if isinstance(seen, UnusableId) else seen
            since = await self._catch_up.begin(vector, send_heartbeat)
            if self._hub.beginnings == beginnings or self._hub.closed:
                break  # else it is another log by now
        if given and not self._hub.closed:
            await write(_resumption(name, seen, since, frames))
        return since


class FeedStream:
    """Serves the connections of one kind of feed."""

    def __init__(self, hub: TopicHub, catch_up: CatchUp, status: Callable[[], Status], open_feeds: OpenFeeds) -> None:
        self._start = FeedStart(hub, catch_up, status)
        self._open_feeds = open_feeds

    async def serve(
        self, request: web.Request, name: str, subscribe: Subscribe, id_tail: str = ""
    ) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, the server ends the feed, or the process stops."""
        response = open_stream(request, _HEADERS)
        try:
            with self._open_feeds.opened(request) as connection:
                await response.prepare(request)
                await self._serve(request, name, subscribe, id_tail, connection, response.write)
        except ConnectionError:
            pass  # the client has disconnected
        except FeedEnded as reason:
            _disconnect(request, name, reason)
        except Exception:
            # Nothing may follow the frames sent so far; a disconnected client resumes.
            log.exception("the feed of %s failed", name)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _serve(
        self,
        request: web.Request,
        name: str,
        subscribe: Subscribe,
        id_tail: str,
        connection: FeedConnection,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        await write(_retry(RECONNECT_MS) + self._start.status(SSE))
        given = request.headers.get("Last-Event-ID") or parse_query(request).get("last_event_id")
        since = await self._start.resume(name, given, id_tail, SSE, write, connection.check)
        subscription = subscribe(since)
        connection.attach(subscription)
        await subscription.run(write)


def _retry(pause_ms: int) -> bytes:
    return f"retry: {pause_ms}\n\n".encode()


def _disconnect(request: web.Request, name: str, reason: FeedEnded) -> None:
    if reason.code is not CloseCode.SHUTTING_DOWN:
        log.warning("a feed of %s is ended, %s: %s", name, reason.name, reason)
    transport = request.transport
    if transport is None:
        return
    frame = SSE.event("error", encode(FeedError(reason.name, str(reason))))
    if reason.code is CloseCode.SHUTTING_DOWN:
        frame = _retry(RECONNECT_MS + randrange(RECONNECT_SPREAD_MS)) + frame
    # Written directly, because the response waits for the client; chunked like the response, with the last chunk.
    transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(frame), frame))
    transport.close()
    asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)


def _resumption(
    channel: str, seen: OffsetVector | UnusableId | None, since: OffsetVector | None, frames: FrameFormat
) -> bytes:
    """The response to a client's id: `resumed`, or `reset` with the reason."""
    if since is not None:
        return frames.event("resumed", encode(FeedPosition(channel)))
    reason = seen if isinstance(seen, UnusableId) else UNKNOWN_ID
    return frames.event("reset", encode(FeedReset(channel, str(reason))))
