"""`GET /v1/channels/{channel}/feed`: a channel's stock as Server-Sent Events.

In: a channel, and with `Last-Event-ID` (or `?last_event_id=`) what the client has seen. Out: `event: resumed` where the
feed goes on from there, `event: reset` where it cannot and begins anew; `event: stock` frames (one channel update as
`data`, an `id`), `event: synced` once every known SKU was sent, then live updates; `event: status` when readiness
changes; `event: error` before a client that is too slow is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import orjson
from aiohttp import web

from stocktide.api import names, problems
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.hub import Hub, encode_frame
from stocktide.api.feeds.offset_vector import OffsetVector, parse_offsets
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.subscriber import HEARTBEAT, STALL_SECONDS_MAX, FeedSubscription, TooSlow
from stocktide.api.requests import parse_query

log = logging.getLogger(__name__)

# More subscribers than this exhaust a process's file descriptors; the rest is told to come back.
READERS_MAX = 10_000
# How long a client that was dropped has to read why.
LINGER_SECONDS = 5.0
# How long a browser waits before it reconnects, in ms.
RECONNECT_MS = 1_000

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would hold frames back.
    "X-Accel-Buffering": "no",
}


class EnsuresChannels(Protocol):
    """What the feed needs of `api.known_channels.KnownChannels`."""

    async def ensure(self, channel: str) -> None:
        """Make a channel known."""
        ...


class FeedHandler:
    """The handler of the feed."""

    def __init__(
        self,
        hub: Hub,
        catch_up: CatchUp,
        known: EnsuresChannels,
        snapshots: SnapshotMonitor,
        status: Callable[[], dict[str, Any]],
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        self._hub = hub
        self._entrance = catch_up
        self._known = known
        self._snapshots = snapshots
        self._status = status
        self._stall_seconds_max = stall_seconds_max

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client leaves, cannot keep up, or the process stops."""
        name = request.match_info["channel"]
        if (wrong := names.check_channel(name)) is not None:
            return wrong
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
            pass  # a client that is gone is known by its broken connection: an ordinary end
        except TooSlow:
            self._drop(request, name)
        except Exception:
            # Nothing else may follow what was sent; a client that is cut off comes back and resumes.
            log.exception("the feed of %s failed", name)
            if request.transport is not None:
                request.transport.abort()
        return response

    def _greeting(self) -> bytes:
        greeting = f"retry: {RECONNECT_MS}\n\n".encode()
        status = self._status()
        return greeting if status["ready"] else greeting + encode_frame("status", orjson.dumps(status))

    def _drop(self, request: web.Request, name: str) -> None:
        log.warning("a subscriber of %s took nothing for %.0f s: dropped", name, self._stall_seconds_max)
        transport = request.transport
        if transport is None:
            return
        detail = f"nothing was read for {self._stall_seconds_max:.0f} seconds"
        frame = encode_frame("error", orjson.dumps({"code": "too_slow", "detail": detail}))
        # Written past the response, which waits for the client; chunked as the response is.
        transport.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        transport.close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)


def _resumption(channel: str, seen: OffsetVector | None, since: OffsetVector | None) -> bytes:
    """What becomes of the id that a client named: the feed goes on after it, or begins anew for a reason."""
    if since is not None:
        return encode_frame("resumed", orjson.dumps({"channel": channel}))
    reason = "malformed_id" if seen is None else "unknown_id"
    return encode_frame("reset", orjson.dumps({"channel": channel, "reason": reason}))
