"""The hub: every channel's newest updates, read from `channel-stock` by whoever feeds it.

In: records (partition, offset, key, value) in the order of their partition. Out: channels to read from, and notices
for all readers. An update is encoded once, and the same bytes go to all; nobody who adds waits for anybody who reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from stocktide.api.feeds.channel import ChannelLog, EncodedUpdate
from stocktide.api.feeds.offset_vector import OffsetVector, dominates, format_offsets
from stocktide.streams.topics import split_key

log = logging.getLogger(__name__)

Record = tuple[int, int, bytes | None, bytes | None]


class _Versioned(Struct):
    version: int


_VERSIONED: msgspec.json.Decoder[_Versioned] = msgspec.json.Decoder(_Versioned)


class Hub:
    """All channels of one API process; lives in one event loop."""

    def __init__(self, partitions: int) -> None:
        self._channels: dict[str, ChannelLog] = {}
        self._next = [0] * partitions
        self._moved = asyncio.Event()
        self._readers: set[Callable[[bytes], None]] = set()
        self.closed = False

    @property
    def partitions(self) -> int:
        """The number of partitions that a cut speaks of."""
        return len(self._next)

    @property
    def position(self) -> OffsetVector:
        """The cut below which everything was read."""
        return tuple(self._next)

    @property
    def readers(self) -> int:
        """How many read from this hub."""
        return len(self._readers)

    @property
    def rows(self) -> int:
        """How many updates are held."""
        return sum(map(len, self._channels.values()))

    def held(self, channel: str) -> int:
        """Of how many SKUs an update is held for a channel."""
        return len(self._channels.get(channel, ()))

    def missing(self, channel: str, skus: Iterable[str]) -> list[str]:
        """Those of `skus` of which no update is held for a channel."""
        held = self._channels.get(channel, ())
        return [sku for sku in skus if sku not in held]

    def channel(self, name: str) -> ChannelLog:
        """A channel, empty where nothing was ever published for it."""
        if (channel := self._channels.get(name)) is None:
            channel = self._channels[name] = ChannelLog(name)
        return channel

    def forget(self, channel: ChannelLog) -> None:
        """Drop a channel that nobody reads and nothing was published for: names cost callers nothing."""
        if not channel.readers and not len(channel):
            self._channels.pop(channel.name, None)

    def add(self, records: Iterable[Record]) -> None:
        """Take the next records of the topic."""
        touched: set[ChannelLog] = set()
        for partition, offset, key, value in records:
            self._next[partition] = offset + 1
            try:
                channel_name, sku = split_key((key or b"").decode())
            except ValueError:  # bytes that are no text, or a text that is no key
                log.error("the key of channel-stock at %d/%d is none; left out", partition, offset)
                continue
            channel = self.channel(channel_name)
            if value is None:
                channel.remove(sku)
            elif (row := self._row(partition, offset, value)) is not None and channel.add(sku, row):
                touched.add(channel)
        for channel in touched:
            channel.wake()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def advance_partition(self, partition: int, offset: int) -> None:
        """Note that everything below `offset` was read where the last records of a partition are none of ours."""
        self._next[partition] = max(self._next[partition], offset)

    async def moved(self, seconds_max: float) -> None:
        """Wait until more was read, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds_max)

    async def reached(self, cut: OffsetVector, seconds_max: float) -> bool:
        """Wait until everything below `cut` was read; False where that does not come about in time."""
        try:
            async with asyncio.timeout(seconds_max):
                while not dominates(self.position, cut):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def listen(self, tell: Callable[[bytes], None]) -> None:
        """Hand every notice (a frame) to `tell` from now on."""
        self._readers.add(tell)

    def unlisten(self, tell: Callable[[bytes], None]) -> None:
        """The opposite of `listen`."""
        self._readers.discard(tell)

    def notify(self, event: str, data: Any) -> None:
        """Send a frame without id to the readers of all channels."""
        frame = encode_frame(event, orjson.dumps(data))
        for tell in self._readers:
            tell(frame)

    def close(self) -> None:
        """End every feed."""
        self.closed = True
        for channel in self._channels.values():
            channel.wake()

    def _row(self, partition: int, offset: int, value: bytes) -> EncodedUpdate | None:
        try:
            version = _VERSIONED.decode(value).version
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error("a row of channel-stock at %d/%d is no channel update; left out", partition, offset)
            return None
        return EncodedUpdate(partition, offset, version, value, encode_frame("stock", value, self.position))


def encode_frame(event: str, data: bytes, cut: OffsetVector | None = None) -> bytes:
    """One event of the stream; JSON of orjson never holds a line break."""
    head = "" if cut is None else f"id: {format_offsets(cut)}\n"
    return f"{head}event: {event}\ndata: ".encode() + data + b"\n\n"
