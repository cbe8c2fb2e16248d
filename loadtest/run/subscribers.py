"""Hundreds of feed subscribers in one process: all follow versions, a few of each channel record everything.

In: the API's address, channels, a count. Out: publication lag, counts, and records. A fully recorded subscriber records
every update when it arrives; the others record a contradiction at once and, at the end, what they hold.

Lag is the time from an update's `as_of`, the ledger's time of the change, to its receipt here; on one machine both are
the same clock. It is measured for every update of a fully recorded subscriber and for one in `LAG_SAMPLED` of others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from stocktide.client.feed import FeedFrame, FeedTransport, Portions
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.dispatcher import time_ms
from stocktide.loadtest.run.recording import RecordingSubscriber, RequestRecorder

# Hundreds of subscribers connect to one API.
CONNECT_SECONDS_MAX = 10.0
# Connections open one after the other, so that none of them measures the accept queue.
CONNECT_INTERVAL_SECONDS = 0.01
# To decode every update for all subscribers would cost more CPU than the system that is measured.
FULLY_RECORDED_PER_CHANNEL = 2
LAG_SAMPLED = 16
# One in so many subscribers of a channel disconnects again and again, and resumes from its last event id.
DISCONNECTS_ONE_IN = 5
DISCONNECT_SECONDS = 5.0
# Once the system is quiet, every subscriber soon has the last update. The wait ends when no subscriber has received
# anything for the first time, or in any case after the second.
IDLE_SECONDS_MAX = 10.0
SETTLE_SECONDS_MAX = 180.0
POLL_SECONDS = 0.25


class SubscriberPool:
    """All subscribers of one process. `mark` begins the SKUs of this run; others are ignored. `sockets`: the share of
    each channel's subscribers that use a WebSocket."""

    def __init__(
        self,
        api: str,
        channels: tuple[str, ...],
        count: int,
        mark: str,
        recorder: RequestRecorder,
        sockets: float = 0.0,
    ) -> None:
        self.meter = LoadMeter()
        self.zero_at: float | None = None
        self.subscribers = [
            PooledSubscriber(
                self,
                api,
                channels[number % len(channels)],
                number,
                number // len(channels),
                mark,
                recorder,
                transport_of(number // len(channels), sockets),
            )
            for number in range(count)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> SubscriberPool:
        for subscriber in self.subscribers:
            self._tasks.append(asyncio.create_task(subscriber.run()))
            await asyncio.sleep(CONNECT_INTERVAL_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settle(self, versions: Mapping[str, Mapping[str, int]]) -> None:
        """Wait until each is connected and has these versions, by channel and SKU, or nothing arrives any more."""
        started = received_at = time.monotonic()
        received = -1
        for subscriber in self.subscribers:
            subscriber.stay_connected()
        behind = self.subscribers
        while behind := [each for each in behind if not each.has(versions.get(each.channel, {}))]:
            updates, now = self.meter.totals["updates"], time.monotonic()
            if updates != received:
                received, received_at = updates, now
            if now > received_at + IDLE_SECONDS_MAX or now > started + SETTLE_SECONDS_MAX:
                return
            await asyncio.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise what ended a subscriber: a bug."""
        for task in self._tasks:
            if task.done():
                task.result()

    def count_updates(self, updates: int) -> None:
        """Count updates received just now."""
        if self.zero_at is not None:
            self.meter.second(time.monotonic() - self.zero_at).counts["updates"] += updates
            self.meter.totals["updates"] += updates

    def record_lag(self, seconds: float) -> None:
        """Record the lag of an update received just now."""
        if self.zero_at is not None:
            self.meter.record("lag", time.monotonic() - self.zero_at, seconds)


def transport_of(nth: int, sockets: float) -> FeedTransport:
    """The transport of the `nth` subscriber of a channel: evenly spread, so that of two that record all one is a
    socket where half are."""
    return "websocket" if int((nth + 1) * sockets) > int(nth * sockets) else "sse"


class PooledSubscriber(RecordingSubscriber):
    """The `nth` subscriber of its channel."""

    def __init__(
        self,
        pool: SubscriberPool,
        api: str,
        channel: str,
        number: int,
        nth: int,
        mark: str,
        recorder: RequestRecorder,
        transport: FeedTransport = "sse",
    ) -> None:
        # The evidence of a violation names the subscriber, and with it the transport.
        name = f"{channel}-{number}.{transport}"
        super().__init__(name, channel, [api], recorder.clock, recorder.add, CONNECT_SECONDS_MAX, transport)
        self.is_fully_recorded = nth < FULLY_RECORDED_PER_CHANNEL
        self._pool = pool
        self._sku_prefix = f'"sku":"{mark}-'.encode()
        self._disconnects = nth % DISCONNECTS_ONE_IN == 1
        self._disconnect: asyncio.Timeout | None = None
        self._connected = False
        self._synced = False
        self._updates = 0
        # By SKU: the version, and the update's JSON.
        self._held: dict[bytes, tuple[int, bytes]] = {}

    async def receive(self, portions: Portions) -> None:
        """Handle an open feed until it ends, or for `DISCONNECT_SECONDS` where this subscriber disconnects."""
        try:
            async with asyncio.timeout(DISCONNECT_SECONDS if self._disconnects else None) as self._disconnect:
                await super().receive(portions)
        finally:
            self._disconnect = None

    def stay_connected(self) -> None:
        """Disconnect no more."""
        self._disconnects = False
        if self._disconnect is not None and not self._disconnect.expired():
            self._disconnect.reschedule(None)

    def has(self, versions: Mapping[str, int]) -> bool:
        """Whether it is connected, in sync, and has at least these versions of SKUs."""
        if not (self._connected and self._synced):
            return False
        return all(self._held.get(sku.encode(), (-1, b""))[0] >= version for sku, version in versions.items())

    def record_held(self) -> None:
        """Record what it holds, unless every update was recorded already."""
        if self.is_fully_recorded:
            return
        for _, data in self._held.values():
            self.record_update(data)
        if self._synced:
            self.record_synced()

    def on_connected(self) -> None:
        """Record the subscription."""
        self._connected, self._synced = True, False
        super().on_connected()

    def on_disconnected(self, reason: str) -> None:
        """Record its end."""
        self._connected = False
        super().on_disconnected(reason)

    def on_reconnect(self) -> None:
        """Count it."""
        self._pool.meter.totals["reconnects"] += 1

    def on_frames(self, frames: Sequence[FeedFrame]) -> None:
        """Follow the versions of this run's SKUs."""
        updates = 0
        for event, data, _ in frames:
            if event == b"stock":
                if self._sku_prefix in data:
                    updates += 1
                    self._hold(data)
            elif event == b"synced":
                self._synced = True
                if self.is_fully_recorded:
                    self.record_synced()
        self._pool.count_updates(updates)

    def _hold(self, data: bytes) -> None:
        sku, version = _between(data, b'"sku":"', b'"'), _version(data)
        held = self._held.get(sku)
        if held is not None and version <= held[0] and not self.is_fully_recorded and data != held[1]:
            # The judge has to see the two in this order.
            self.record_update(held[1])
            self.record_update(data)
        self._held[sku] = (version, data)
        self._updates += 1
        if self.is_fully_recorded:
            self.record_update(data)
        if self._synced and (self.is_fully_recorded or not self._updates % LAG_SAMPLED):
            as_of = time_ms(_between(data, b'"as_of":"', b'"').decode())
            self._pool.record_lag((self._clock.now() - (as_of or 0)) / 1000)


def _between(data: bytes, before: bytes, after: bytes) -> bytes:
    """The text between two others; empty where they do not occur."""
    start = data.find(before)
    if start < 0:
        return b""
    start += len(before)
    return data[start : data.find(after, start)]


def _version(data: bytes) -> int:
    digits = _between(data, b'"version":', b",") or b"-1"
    return int(digits) if digits.isdigit() else -1
