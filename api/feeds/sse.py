"""`GET /v1/channels/{channel}/feed`: a channel's stock as Server-Sent Events.

In: a channel. Out: the events of every feed (`stream.py`); `event: stock` frames (one channel update as `data`, an
`id`), `event: synced` when every known SKU was sent, then live updates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from stocktide.api import problems
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.stream import READERS_MAX, FeedStream
from stocktide.api.feeds.subscriber import STALL_SECONDS_MAX, FeedSubscription
from stocktide.api.requests import check_channel
from stocktide.streams.contract.documents import Status


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
        self._known = known
        self._snapshots = snapshots
        self._stall_seconds_max = stall_seconds_max
        self._stream = FeedStream(hub, catch_up, status, self._subscribe)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, or the process stops."""
        name = request.match_info["channel"]
        if (invalid := check_channel(name)) is not None:
            return invalid
        if self._hub.readers >= READERS_MAX:
            return problems.service_unavailable("too_many_subscribers", f"{READERS_MAX} subscribers are connected")
        if not len(self._hub.channel(name)):
            await self._known.ensure(name)
        return await self._stream.serve(request, name)

    def _subscribe(self, name: str, since: OffsetVector | None) -> FeedSubscription:
        whole = partial(self._snapshots.whole, name)
        channel = self._hub.channel(name)
        return FeedSubscription(self._hub, channel, since, whole, stall_seconds_max=self._stall_seconds_max)
