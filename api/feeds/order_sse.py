"""`GET /v1/channels/{channel}/orders/feed`: the changes of a channel's orders as Server-Sent Events.

In: a channel. Out: the events of every feed (`stream.py`); `event: order` frames (the order as `data`, an `id`), first
those that a client that resumes has missed; `event: synced`; then every change from now on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiohttp import web
from aiokafka.errors import KafkaError

from stocktide.api import problems
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.close_codes import TooSlow
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.frames import SSE
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.order_history import HistoryReading, OrderHistory
from stocktide.api.feeds.order_tail import OrderTail
from stocktide.api.feeds.orders import OrderHub
from stocktide.api.feeds.stream import READERS_MAX, FeedStream
from stocktide.api.feeds.subscriber import (
    HEARTBEAT_SECONDS,
    STALL_SECONDS_MAX,
    WRITE_BYTES_MAX,
    Subscription,
    Write,
)
from stocktide.api.requests import check_channel
from stocktide.streams.contract.documents import FeedPosition, Status, encode
from stocktide.tables.settlement.stalls import describe_error


class OrderFeedHandler:
    """The handler of the feed of orders."""

    def __init__(
        self,
        hub: OrderHub,
        tail: OrderTail,
        history: OrderHistory,
        status: Callable[[], Status],
        open_feeds: OpenFeeds,
    ) -> None:
        self._hub = hub
        self._tail = tail
        self._history = history
        self._status = status
        self._stream = FeedStream(hub, CatchUp(hub, tail), status, open_feeds)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """Stream until the client disconnects, is too slow, or the process stops."""
        name = request.match_info["channel"]
        if (invalid := check_channel(name)) is not None:
            return invalid
        if self._tail.users >= READERS_MAX:
            return problems.service_unavailable("too_many_subscribers", f"{READERS_MAX} subscribers are connected")
        if (reason := self._status().reasons.get("kafka")) is not None:
            return problems.service_unavailable("unavailable", f"The orders cannot be followed now: {reason}.")
        try:
            await self._tail.acquire()
        except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
            detail = f"The orders cannot be followed now: Kafka does not answer: {describe_error(error)}."
            return problems.service_unavailable("unavailable", detail)
        try:
            return await self._stream.serve(request, name, partial(self._subscribe, name))
        finally:
            self._tail.release()

    def _subscribe(self, name: str, since: OffsetVector | None) -> OrderSubscription:
        return OrderSubscription(self._hub, self._history, name, since)


class OrderSubscription(Subscription):
    """Reads one channel's orders for one client: what it missed, `synced`, then every change."""

    def __init__(
        self,
        hub: OrderHub,
        history: OrderHistory,
        channel: str,
        since: OffsetVector | None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stall_seconds_max: float = STALL_SECONDS_MAX,
    ) -> None:
        super().__init__(hub, heartbeat_seconds, stall_seconds_max)
        self._orders = hub
        self._history = history
        self._name = channel
        # The client's vector until it is synced; None: it has no missed rows to get.
        self._seen = since
        self._is_synced = False
        self._position = 0

    async def _run(self, write: Write) -> None:
        while self._seen is not None and not self._has_ended and not self._orders.covers(self._seen):
            send = partial(self._write, write)
            reading = HistoryReading(
                self._name, self._seen, self._hub.position, send, lambda: self._has_ended, self._hub.ids
            )
            self._seen = await self._history.read(reading)
        if self._has_ended:
            return
        channel = self._channel = self._orders.channel(self._name)
        self._position = channel.end if self._seen is None else channel.first
        channel.readers.add(self._more.set)
        try:
            await self._follow(write)
        finally:
            channel.readers.discard(self._more.set)
            self._orders.forget(channel)

    def _heartbeat(self) -> bytes:
        """With an id, so that a client of a quiet channel resumes from here, and not from its newest order."""
        if not self._is_synced or self._position < self._channel.end:
            return SSE.heartbeat
        return f": heartbeat\nid: {self._hub.ids.format(self._hub.position)}\n\n".encode()

    def _next(self) -> bytes:
        channel, notices = self._channel, self._take_notices()
        if self._position < channel.first:
            if self._seen is None or not self._orders.covers(self._seen):
                raise TooSlow("more changes than are kept have passed since the last one that was read")
            self._position = channel.first
        if self._is_synced:
            frames, self._position = channel.after(self._position, WRITE_BYTES_MAX)
            return notices + frames
        frames = b""
        if self._seen is not None:
            frames, self._position, self._seen = channel.missed(self._position, self._seen, WRITE_BYTES_MAX)
        if self._position < channel.end:
            return notices + frames
        # At the end everything that the hub has read was sent.
        self._is_synced, self._seen = True, None
        frame_id = self._hub.ids.format(self._hub.position)
        return notices + frames + SSE.event("synced", encode(FeedPosition(self._name)), frame_id)
