"""`GET /v1/channels/{channel}/feed`: a channel's stock as Server-Sent Events.

In: a channel, and with `Last-Event-ID` (or `?last_event_id=`) what the client has seen. Out: `event: stock` frames
(one channel update as `data`, an `id`), `event: synced` once everything until now was sent, then live updates;
`event: status` when readiness changes; `event: error` before a client that is too slow is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import orjson
from aiohttp import web

from api import names, problems
from api.feeds.cut import Cut, parse_cut
from api.feeds.hub import Hub, encode_frame
from api.feeds.reader import STALL_SECONDS_MAX, Reader, TooSlow

log = logging.getLogger(__name__)

# A client may come from an API process that is ahead of this one by a fetch or two.
CATCH_UP_SECONDS_MAX = 2.0
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


class MakesKnown(Protocol):
    """What the feed needs of `api.channels.KnownChannels`."""

    async def ensure(self, channel: str) -> None:
        """Make a channel known."""
        ...


class Feeds:
    """The handler of the feed."""

    def __init__(
        self,
        hub: Hub,
        known: MakesKnown,
        status: Callable[[], dict[str, Any]],
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        self._hub = hub
        self._known = known
        self._status = status
        self._stall_seconds_max = stall_seconds_max

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client leaves, cannot keep up, or the process stops."""
        name = request.match_info["channel"]
        if (wrong := names.refuse_channel(name)) is not None:
            return wrong
        if self._hub.readers >= READERS_MAX:
            return problems.unsettled("too_many_subscribers", f"{READERS_MAX} subscribers are connected")
        if not len(self._hub.channel(name)):
            await self._known.ensure(name)
        since = await self._since(request)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        reader = Reader(self._hub, self._hub.channel(name), since, stall_seconds_max=self._stall_seconds_max)
        try:
            await reader.run(response.write, self._greeting())
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

    async def _since(self, request: web.Request) -> Cut | None:
        """What the client has seen; None where it names nothing that this log can have given it."""
        text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
        cut = parse_cut(text, self._hub.partitions) if text else None
        if cut is None or not await self._hub.reached(cut, CATCH_UP_SECONDS_MAX):
            return None
        return cut

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
