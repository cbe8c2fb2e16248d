"""The hub: the newest updates of all channels.

In: records of `channel-stock` (partition, offset, key, value) in the order of their partition. Out: channel logs to
read, and notices for all readers. An update is encoded once for all readers; an addition never waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.api.feeds.channel import ChannelLog, EncodedUpdate
from stocktide.api.feeds.offset_vector import OffsetVector, dominates, format_offsets
from stocktide.streams.contract.documents import encode
from stocktide.streams.topics import split_key

log = logging.getLogger(__name__)

Record = tuple[int, int, bytes | None, bytes | None]


class _Versioned(Struct):
    version: int


_VERSIONED: msgspec.json.Decoder[_Versioned] = msgspec.json.Decoder(_Versioned)


class Hub:
    """All channels of one API process; bound to one event loop."""

    def __init__(self, partitions: int) -> None:
        self._channels: dict[str, ChannelLog] = {}
        self._next = [0] * partitions
        self._moved = asyncio.Event()
        self._readers: set[Callable[[bytes], None]] = set()
        self.closed = False

    @property
    def partitions(self) -> int:
        """The number of partitions of the topic."""
        return len(self._next)

    @property
    def position(self) -> OffsetVector:
        """The offset vector below which everything was read."""
        return tuple(self._next)

    @property
    def readers(self) -> int:
        """The number of readers."""
        return len(self._readers)

    @property
    def rows(self) -> int:
        """The number of updates."""
        return sum(map(len, self._channels.values()))

    def held(self, channel: str) -> int:
        """The number of SKUs with an update for a channel."""
        return len(self._channels.get(channel, ()))

    def missing(self, channel: str, skus: Iterable[str]) -> list[str]:
        """Those of `skus` without an update for a channel."""
        held = self._channels.get(channel, ())
        return [sku for sku in skus if sku not in held]

    def channel(self, name: str) -> ChannelLog:
        """The log of a channel, empty if nothing was published for it."""
        if (channel := self._channels.get(name)) is None:
            channel = self._channels[name] = ChannelLog(name)
        return channel

    def forget(self, channel: ChannelLog) -> None:
        """Remove an empty channel without readers: clients can invent any number of names."""
        if not channel.readers and not len(channel):
            self._channels.pop(channel.name, None)

    def add(self, records: Iterable[Record]) -> None:
        """Add the next records of the topic."""
        touched: set[ChannelLog] = set()
        for partition, offset, key, value in records:
            self._next[partition] = offset + 1
            try:
                channel_name, sku = split_key((key or b"").decode())
            except ValueError:  # not UTF-8, or not a key
                log.error("invalid key in channel-stock at %d/%d; skipped", partition, offset)
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
        """Everything below `offset` was read: the last offsets of a partition may hold no record of ours."""
        self._next[partition] = max(self._next[partition], offset)

    async def moved(self, seconds_max: float) -> None:
        """Wait until more was read, at most `seconds_max`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds_max)

    async def reached(self, offsets: OffsetVector, seconds_max: float) -> bool:
        """Wait until everything below `offsets` was read; False after `seconds_max`."""
        try:
            async with asyncio.timeout(seconds_max):
                while not dominates(self.position, offsets):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def add_listener(self, listener: Callable[[bytes], None]) -> None:
        """Call `listener` with every notice (a frame) from now on."""
        self._readers.add(listener)

    def remove_listener(self, listener: Callable[[bytes], None]) -> None:
        """Remove a listener."""
        self._readers.discard(listener)

    def notify(self, event: str, data: Any) -> None:
        """Send a frame without an id to the readers of all channels."""
        frame = encode_frame(event, encode(data))
        for listener in self._readers:
            listener(frame)

    def close(self) -> None:
        """End every feed."""
        self.closed = True
        for channel in self._channels.values():
            channel.wake()

    def _row(self, partition: int, offset: int, value: bytes) -> EncodedUpdate | None:
        try:
            version = _VERSIONED.decode(value).version
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error("invalid channel update in channel-stock at %d/%d; skipped", partition, offset)
            return None
        return EncodedUpdate(partition, offset, version, value, encode_frame("stock", value, self.position))


def encode_frame(event: str, data: bytes, offsets: OffsetVector | None = None) -> bytes:
    """One event of the stream; `data` has no line breaks."""
    head = "" if offsets is None else f"id: {format_offsets(offsets)}\n"
    return f"{head}event: {event}\ndata: ".encode() + data + b"\n\n"
