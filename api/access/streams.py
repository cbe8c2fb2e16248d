"""The answers of feeds, from which is left out what a channel may not see.

In: a request of a feed. Out: its `StreamResponse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from stocktide.api.access.caller import CHANNEL, caller_of
from stocktide.api.access.scopes import frames_without_warehouses


class _ChannelStream(web.StreamResponse):
    """Leaves warehouses out of the frames. Each write has whole frames."""

    async def write(self, data: Any) -> None:
        await super().write(frames_without_warehouses(bytes(data)))


def open_stream(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
    """The answer of a feed, not yet prepared."""
    kind = _ChannelStream if caller_of(request).role == CHANNEL else web.StreamResponse
    return kind(headers=headers)
