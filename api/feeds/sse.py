"""`GET /v1/channels/{channel}/feed`: a channel's stock as Server-Sent Events.

In: a channel, and with `?sku=` and `?prefix=` (any number of each) a selection of it. Out: the events of every feed
(`stream.py`); `event: stock` frames (one channel update as `data`, an `id`), `event: synced` when every known SKU was
sent, then live updates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from stocktide.api import problems
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.frames import SSE, FrameFormat
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.selection import EVERYTHING, Selection, check_selection, check_size
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.stream import READERS_MAX, FeedStart, FeedStream
from stocktide.api.feeds.subscriber import HEARTBEAT_SECONDS, STALL_SECONDS_MAX, FeedSubscription
from stocktide.api.requests import check_channel, parse_query
from stocktide.streams.contract.documents import Status


class EnsuresChannels(Protocol):
    """The part of `api.known_channels.KnownChannels` that the feed needs."""

    async def ensure(self, channel: str) -> None:
        """Register a channel."""
        ...


class ChannelFeeds:
    """What the feeds of stock of both transports have in common: the checks of a request, and its subscription."""

    def __init__(
        self,
        hub: Hub,
        catch_up: CatchUp,
        known: EnsuresChannels,
        snapshots: SnapshotMonitor,
        status: Callable[[], Status],
        open_feeds: OpenFeeds,
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        self.hub = hub
        self.catch_up = catch_up
        self.status = status
        self.start = FeedStart(hub, catch_up, status)
        self.open_feeds = open_feeds
        self.stall_seconds_max = stall_seconds_max
        self._known = known
        self._snapshots = snapshots

    async def check(self, request: web.Request) -> Selection | web.Response:
        """What the query selects, everything if it names nothing; or the problem. The channel is known then."""
        name = request.match_info["channel"]
        if (invalid := check_channel(name)) is not None:
            return invalid
        query = parse_query(request)
        skus, prefixes = query.getall("sku", ()), query.getall("prefix", ())
        selection = Selection(skus, prefixes) if skus or prefixes else EVERYTHING
        if (wrong := check_selection(skus, prefixes) or check_size(selection)) is not None:
            return problems.from_malformed(wrong)
        if self.hub.readers >= READERS_MAX:
            return problems.service_unavailable("too_many_subscribers", f"{READERS_MAX} subscribers are connected")
        if not len(self.hub.channel(name)):
            await self._known.ensure(name)
        return selection

    def subscribe(
        self,
        name: str,
        selection: Selection,
        frames: FrameFormat,
        since: OffsetVector | None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        answers: Callable[[], bytes] = bytes,
    ) -> FeedSubscription:
        """A subscription, to run; `answers` are frames to write before the next ones, after `wake`."""
        return FeedSubscription(
            self.hub,
            self.hub.channel(name),
            since,
            partial(self._snapshots.whole, name),
            heartbeat_seconds,
            self.stall_seconds_max,
            answers=answers,
            frames=frames,
            selection=selection,
        )


class FeedHandler:
    """The handler of the feed."""

    def __init__(self, feeds: ChannelFeeds) -> None:
        self._feeds = feeds
        self._stream = FeedStream(feeds.hub, feeds.catch_up, feeds.status, feeds.open_feeds)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, the server ends the feed, or the process stops."""
        selection = await self._feeds.check(request)
        if not isinstance(selection, Selection):
            return selection
        name = request.match_info["channel"]
        subscribe = partial(self._feeds.subscribe, name, selection, SSE)
        return await self._stream.serve(request, name, subscribe, selection.id_tail)
