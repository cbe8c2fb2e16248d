"""Subscribers by the hundred in one process: each follows versions, few write everything down.

In: the API's address, channels, how many. Out: how long updates took, counts, and records: of the `whole` ones every
update as it came; of the others what is odd at once, and at the end all that they hold.

`lag` is from `as_of` of an update, the ledger's time of the change, to its receipt here: on one machine that is one
clock. It is taken of every update of a whole one, and of one in `LAG_SAMPLED` of the others'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import aiohttp
import msgspec

from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.dispatcher import time_ms
from stocktide.loadtest.oracle.history import Subscribed, Synced, UnreadableRow, Unsubscribed, UpdateReceived
from stocktide.loadtest.run.recording import RequestRecorder

CONNECT_SECONDS_MAX = 10.0
# The feed says something every 15 s; silent for longer, the line is dead.
SILENCE_SECONDS_MAX = 20.0
RECONNECT_SECONDS = 0.3
# Connections are opened one after the other, so that none of them measures the crowd at the door.
ARRIVE_SECONDS = 0.01
# Of each channel the first two write everything down; to decode for all costs more than the system that is measured.
FULLY_RECORDED_PER_CHANNEL = 2
LAG_SAMPLED = 16
# One in so many of each channel's leaves again and again, and comes back with what it has seen.
LEAVES_ONE_IN = 5
LEAVES_AFTER_SECONDS = 5.0
# Once the system rests every subscriber has the last update soon. Where nothing has come to any of them for so long it
# is not merely slow; and so long it may take in all.
STILL_SECONDS = 10.0
SETTLE_SECONDS_MAX = 180.0
LOOK_SECONDS = 0.25
# A frame is one update; this bounds a feed that never ends one.
FRAME_BYTES_MAX = 1024 * 1024

_UPDATE = msgspec.json.Decoder(ChannelUpdateView)
_GONE = (aiohttp.ClientError, TimeoutError, OSError)


class SubscriberPool:
    """All subscribers of one process. `mark` begins the SKUs of this run: others are none of its business."""

    def __init__(self, api: str, channels: tuple[str, ...], count: int, mark: str, recorder: RequestRecorder) -> None:
        self.meter = LoadMeter()
        self.zero_at: float | None = None
        self.subscribers = [
            PooledSubscriber(self, api, channels[index % len(channels)], index, index // len(channels), mark, recorder)
            for index in range(count)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> SubscriberPool:
        for follower in self.subscribers:
            self._tasks.append(asyncio.create_task(follower.follow()))
            await asyncio.sleep(ARRIVE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def synced(self) -> bool:
        """Whether each has been told once that it has everything."""
        return all(follower.was_synced for follower in self.subscribers)

    async def settle(self, versions: Mapping[str, Mapping[str, int]]) -> None:
        """Wait until each is connected and has these versions, by channel and SKU, or nothing comes any more."""
        began = moved_at = time.monotonic()
        seen = -1
        for follower in self.subscribers:
            follower.stay()
        behind = self.subscribers
        while behind := [follower for follower in behind if not follower.has(versions.get(follower.channel, {}))]:
            updates, now = self.meter.totals["updates"], time.monotonic()
            if updates != seen:
                seen, moved_at = updates, now
            if now > moved_at + STILL_SECONDS or now > began + SETTLE_SECONDS_MAX:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def check(self) -> None:
        """Raise what ended a subscriber: a bug."""
        for task in self._tasks:
            if task.done():
                task.result()

    def count(self, updates: int) -> None:
        """So many updates came just now."""
        if self.zero_at is not None:
            self.meter.second(time.monotonic() - self.zero_at).counts["updates"] += updates
            self.meter.totals["updates"] += updates

    def lag(self, seconds: float) -> None:
        """An update took so long."""
        if self.zero_at is not None:
            self.meter.record("lag", time.monotonic() - self.zero_at, seconds)


class PooledSubscriber:
    """One subscriber, the `nth` of its channel."""

    def __init__(
        self, crowd: SubscriberPool, api: str, channel: str, index: int, nth: int, mark: str, recorder: RequestRecorder
    ) -> None:
        self.name = f"{channel}-{index}"
        self.was_synced = False
        self.whole = nth < FULLY_RECORDED_PER_CHANNEL
        self._leaves = nth % LEAVES_ONE_IN == 1
        self._leaving: asyncio.Timeout | None = None
        self.channel = channel
        self._crowd = crowd
        self._url = f"{api.rstrip('/')}/v1/channels/{quote(channel, safe='')}/feed"
        self._mark = f'"sku":"{mark}-'.encode()
        self._recorder = recorder
        self._last_id: bytes | None = None
        self._connected = False
        self._synced = False
        self._updates = 0
        # By SKU: its version, and the update as it came.
        self._holds: dict[bytes, tuple[int, bytes]] = {}

    async def follow(self) -> None:
        """Subscribe, again and again."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(*_GONE):
                    await self._connect(session)
                self._crowd.meter.totals["reconnects"] += 1
                await asyncio.sleep(RECONNECT_SECONDS)

    def stay(self) -> None:
        """Leave no more."""
        self._leaves = False
        if self._leaving is not None and not self._leaving.expired():
            self._leaving.reschedule(None)

    def has(self, versions: Mapping[str, int]) -> bool:
        """Whether it is connected, was told that it has everything, and has at least these versions of SKUs."""
        if not (self._connected and self._synced):
            return False
        return all(self._holds.get(sku.encode(), (-1, b""))[0] >= version for sku, version in versions.items())

    def tell(self) -> None:
        """Write down what it holds, unless that was written all along."""
        if self.whole:
            return
        for _, data in self._holds.values():
            self._add(data)
        if self._synced:
            self._recorder.add(Synced(self._recorder.clock.now(), self.name))

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        asked_at = self._recorder.clock.now()
        last = None if self._last_id is None else self._last_id.decode()
        async with session.get(self._url, headers={"Last-Event-ID": last} if last else {}) as response:
            if response.status != 200:
                return
            self._connected, self._synced, why = True, False, "the feed ended"
            self._recorder.add(Subscribed(self._recorder.clock.now(), self.name, self.channel, last, asked_at))
            try:
                async with asyncio.timeout(LEAVES_AFTER_SECONDS if self._leaves else None) as self._leaving:
                    async for frames in _frames(response.content):
                        self._take(frames)
            except _GONE as error:
                why = type(error).__name__
            finally:
                self._connected, self._leaving = False, None
                self._recorder.add(Unsubscribed(self._recorder.clock.now(), self.name, why))

    def _take(self, frames: list[bytes]) -> None:
        updates = 0
        for frame in frames:
            fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
            event = fields.get(b"event")
            if event == b"stock":
                data = fields.get(b"data", b"")
                if self._mark in data:
                    updates += 1
                    self._see(data)
            elif event == b"synced":
                self._synced = self.was_synced = True
                if self.whole:
                    self._recorder.add(Synced(self._recorder.clock.now(), self.name))
            # Only a frame that came whole moves the mark.
            if (id_ := fields.get(b"id")) is not None:
                self._last_id = id_
        self._crowd.count(updates)

    def _see(self, data: bytes) -> None:
        sku, version = _between(data, b'"sku":"', b'"'), _version(data)
        held = self._holds.get(sku)
        if held is not None and version <= held[0] and not self.whole and data != held[1]:
            # Told now, in this order, so that whoever judges sees the same.
            self._add(held[1])
            self._add(data)
        self._holds[sku] = (version, data)
        self._updates += 1
        if self.whole:
            self._add(data)
        if self._synced and (self.whole or not self._updates % LAG_SAMPLED):
            as_of = time_ms(_between(data, b'"as_of":"', b'"').decode())
            self._crowd.lag((self._recorder.clock.now() - (as_of or 0)) / 1000)

    def _add(self, data: bytes) -> None:
        now, add = self._recorder.clock.now(), self._recorder.add
        try:
            add(UpdateReceived(now, self.name, _UPDATE.decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            add(UnreadableRow(now, -1, -1, f"feed of {self.channel}", str(error)))


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """The stream's frames, as many at a time as came; what a broken connection leaves of one is none."""
    rest = b""
    async for chunk in content.iter_any():
        frames = (rest + chunk).split(b"\n\n")
        rest = frames.pop()
        if len(rest) > FRAME_BYTES_MAX:
            return
        yield frames


def _between(data: bytes, before: bytes, after: bytes) -> bytes:
    """The text between two marks; empty where they are not there."""
    start = data.find(before)
    if start < 0:
        return b""
    start += len(before)
    return data[start : data.find(after, start)]


def _version(data: bytes) -> int:
    digits = _between(data, b'"version":', b",") or b"-1"
    return int(digits) if digits.isdigit() else -1
