"""The answers that are written bit by bit: what a channel may not see is left out, and a key that ends is announced.

In: a request of a feed. Out: its `StreamResponse`; the event `error` with the code `unauthorized`, then the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from stocktide.api import problems
from stocktide.api.access.caller import CHANNEL, caller_of
from stocktide.api.access.scopes import frames_without_warehouses

# Where the open answer of a feed is stored in its request.
STREAM = web.RequestKey("stream", web.StreamResponse)
# A client that reads nothing is not told.
END_SECONDS_MAX = 2.0
_ENDED = b'event: error\ndata: {"code":"unauthorized","detail":"the key is no longer valid"}\n\n'


class _ChannelStream(web.StreamResponse):
    """Leaves warehouses out of the frames. Each write has whole frames."""

    async def write(self, data: Any) -> None:
        await super().write(frames_without_warehouses(bytes(data)))


def open_stream(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
    """The answer of a feed, not yet prepared."""
    kind = _ChannelStream if caller_of(request).role == CHANNEL else web.StreamResponse
    response = kind(headers=headers)
    request[STREAM] = response
    return response


async def end_stream(request: web.Request) -> web.StreamResponse:
    """Tell an open feed that its key has ended, and end it."""
    response: web.StreamResponse | None = request.get(STREAM)
    if response is None or not response.prepared:
        return problems.problem_response(401, "unauthorized", "The key is no longer valid.")
    response.force_close()
    try:
        async with asyncio.timeout(END_SECONDS_MAX):
            await response.write(_ENDED)
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
    return response
