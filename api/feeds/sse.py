"""`GET /v1/channels/{channel}/feed`: a channel's stock as Server-Sent Events.

In: a channel, and with `Last-Event-ID` (or `?last_event_id=`) the last id of the client. Out: `event: resumed` if the
feed continues from there, `event: reset` if it cannot and restarts; `event: stock` frames (one channel update as
`data`, an `id`), `event: synced` when every known SKU was sent, then live updates; `event: status` when readiness
changes; `event: error` before a slow client is disconnected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from stocktide.api import problems
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.channel import encode_frame
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector, parse_offsets
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.subscriber import HEARTBEAT, STALL_SECONDS_MAX, FeedSubscription, TooSlow
from stocktide.api.requests import check_channel, parse_query
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


class EnsuresChannels(Protocol):
    """The part of `api.known_channels.KnownChannels` that the feed needs."""

    async def ensure(self, channel: str) -> None:
        """Register a channel."""
        ...


class FeedHandler:
    """The handler of the feed."""

    def __init__(
        self,
        hub: Hub,
        catch_up: CatchUp,
        known: EnsuresChannels,
        snapshots: SnapshotMonitor,
        status: Callable[[], Status],
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        self._hub = hub
        self._entrance = catch_up
        self._known = known
        self._snapshots = snapshots
        self._status = status
        self._stall_seconds_max = stall_seconds_max

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, or the process stops."""
        name = request.match_info["channel"]
        if (invalid := check_channel(name)) is not None:
            return invalid
        if self._hub.readers >= READERS_MAX:
            return problems.service_unavailable("too_many_subscribers", f"{READERS_MAX} subscribers are connected")
        if not len(self._hub.channel(name)):
            await self._known.ensure(name)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        try:
            await response.write(self._greeting())
            given = request.headers.get("Last-Event-ID") or parse_query(request).get("last_event_id")
            seen = parse_offsets(given, self._hub.partitions) if given else None
            since = await self._entrance.begin(seen, partial(response.write, HEARTBEAT))
            if given and not self._hub.closed:
                await response.write(_resumption(name, seen, since))
            whole = partial(self._snapshots.whole, name)
            reader = FeedSubscription(
                self._hub, self._hub.channel(name), since, whole, stall_seconds_max=self._stall_seconds_max
            )
            await reader.run(response.write)
        except ConnectionError:
            pass  # the client has disconnected
        except TooSlow:
            self._disconnect(request, name)
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

    def _disconnect(self, request: web.Request, name: str) -> None:
        log.warning("a subscriber of %s read nothing for %.0f s: disconnected", name, self._stall_seconds_max)
        transport = request.transport
        if transport is None:
            return
        detail = f"nothing was read for {self._stall_seconds_max:.0f} seconds"
        frame = encode_frame("error", encode({"code": "too_slow", "detail": detail}))
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
