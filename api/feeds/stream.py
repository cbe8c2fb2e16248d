"""One connection of a feed: the greeting, what became of the client's id, then what its subscription writes.

In: a request, and with `Last-Event-ID` (or `?last_event_id=`) the last id of the client. Out: `event: resumed` if the
feed continues from there, `event: reset` if it cannot and restarts; the frames of the subscription; `event: status`
when readiness changes; `event: error` before a slow client is disconnected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from aiohttp import web

from stocktide.api.access.streams import open_stream
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.channel import encode_frame
from stocktide.api.feeds.hub import TopicHub
from stocktide.api.feeds.offset_vector import OffsetVector, parse_offsets
from stocktide.api.feeds.subscriber import HEARTBEAT, Subscription, TooSlow
from stocktide.api.requests import parse_query
from stocktide.streams.contract.documents import Status, encode

log = logging.getLogger(__name__)

# More subscribers would exhaust the file descriptors; they are refused with 503.
READERS_MAX = 10_000
# The time for a disconnected client to read the error.
LINGER_SECONDS = 5.0
# The pause of a browser before it reconnects.
RECONNECT_MS = 1_000

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would buffer frames.
    "X-Accel-Buffering": "no",
}

# (channel, the vector to continue from or None) → the subscription.
Subscribe = Callable[[str, OffsetVector | None], Subscription]


class FeedStream:
    """Serves the connections of one kind of feed."""

    def __init__(self, hub: TopicHub, catch_up: CatchUp, status: Callable[[], Status], subscribe: Subscribe) -> None:
        self._hub = hub
        self._catch_up = catch_up
        self._status = status
        self._subscribe = subscribe

    async def serve(self, request: web.Request, name: str) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, or the process stops."""
        response = open_stream(request, _HEADERS)
        await response.prepare(request)
        try:
            await response.write(self._greeting())
            given = request.headers.get("Last-Event-ID") or parse_query(request).get("last_event_id")
            seen = parse_offsets(given, self._hub.partitions) if given else None
            since = await self._catch_up.begin(seen, partial(response.write, HEARTBEAT))
            if given and not self._hub.closed:
                await response.write(_resumption(name, seen, since))
            await self._subscribe(name, since).run(response.write)
        except ConnectionError:
            pass  # the client has disconnected
        except TooSlow as error:
            _disconnect(request, name, error)
        except Exception:
            # Nothing may follow the frames sent so far; a disconnected client resumes.
            log.exception("the feed of %s failed", name)
            if request.transport is not None:
                request.transport.abort()
        return response

    def _greeting(self) -> bytes:
        greeting = f"retry: {RECONNECT_MS}\n\n".encode()
        status = self._status()
        return greeting if status.ready else greeting + encode_frame("status", encode(status))


def _disconnect(request: web.Request, name: str, error: TooSlow) -> None:
    log.warning("a subscriber of %s is too slow, and is disconnected: %s", name, error)
    transport = request.transport
    if transport is None:
        return
    frame = encode_frame("error", encode({"code": "too_slow", "detail": str(error)}))
    # Written directly, because the response waits for the client; chunked like the response.
    transport.write(b"%x\r\n%s\r\n" % (len(frame), frame))
    transport.close()
    asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)


def _resumption(channel: str, seen: OffsetVector | None, since: OffsetVector | None) -> bytes:
    """The response to a client's id: `resumed`, or `reset` with the reason."""
    if since is not None:
        return encode_frame("resumed", encode({"channel": channel}))
    reason = "malformed_id" if seen is None else "unknown_id"
    return encode_frame("reset", encode({"channel": channel, "reason": reason}))
