"""The hub: the newest updates of all channels, and what it has in common with the hub of orders.

In: records of `channel-stock` in the order of their partition. Out: channel logs to read, and notices for all readers.
An addition never waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stocktide.api.feeds.channel import ChannelLog
from stocktide.api.feeds.offset_vector import EventIds, OffsetVector, dominates
from stocktide.streams.contract.documents import encode
from stocktide.streams.topics import join_key, split_key

if TYPE_CHECKING:  # the transport imports Faust, which the API does without
    from stocktide.streams.kafka.transport import Record

log = logging.getLogger(__name__)

# (event, data as JSON): a notice for all readers.
Listener = Callable[[str, bytes], None]


class TopicHub(ABC):
    """What one API process has read of a topic, for its readers; bound to one event loop."""

    def __init__(self, partitions: int, epoch: str = "") -> None:
        self._next = [0] * partitions
        self._moved = asyncio.Event()
        self._listeners: set[Listener] = set()
        self.closed = False
        # The ids of this log.
        self.ids = EventIds(epoch)
        # Counts the beginnings: a subscription does not go on after the next one.
        self.beginnings = 0

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
        return len(self._listeners)

    @abstractmethod
    def add(self, partition: int, records: Sequence[Record]) -> None:
        """Add the next records of a partition; at least one."""

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

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every notice from now on."""
        self._listeners.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.discard(listener)

    def notify(self, event: str, data: Any) -> None:
        """Send an event without an id to the readers of all channels."""
        encoded = encode(data)
        for listener in self._listeners:
            listener(event, encoded)

    def close(self) -> None:
        """End every feed."""
        self.closed = True
        self._wake_all()

    @abstractmethod
    def _wake_all(self) -> None:
        """Notify every reader."""

    def _has_moved(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class Hub(TopicHub):
    """The updates of all channels of one API process."""

    def __init__(self, partitions: int, epoch: str = "") -> None:
        super().__init__(partitions, epoch)
        # By the first part of the topic's keys.
        self._channels: dict[bytes, ChannelLog] = {}
        # SKU → its number, by which the channels keep its updates.
        self._skus: dict[bytes, int] = {}

    @property
    def rows(self) -> int:
        """The number of updates."""
        return sum(map(len, self._channels.values()))

    def held(self, channel: str) -> int:
        """The number of SKUs with an update for a channel."""
        return len(self._channels.get(_key_of(channel), ()))

    def missing(self, channel: str, skus: Iterable[str]) -> list[str]:
        """Those of `skus` without an update for a channel."""
        held = self._channels.get(_key_of(channel), ())
        return [sku for sku in skus if self._skus.get(sku.encode()) not in held]

    def numbers(self, skus: Iterable[str]) -> list[int]:
        """The numbers of those SKUs that have an update for any channel."""
        found = (self._skus.get(sku.encode()) for sku in skus)
        return [number for number in found if number is not None]

    def begin(self, epoch: str) -> None:
        """Forget everything: the topic was made anew. Every subscription ends, and its client gets `reset`."""
        self.beginnings += 1
        self._wake_all()
        self._channels.clear()
        self._skus.clear()
        self._next = [0] * self.partitions
        self.ids = EventIds(epoch)
        self._has_moved()

    def channel(self, name: str) -> ChannelLog:
        """The log of a channel, empty if nothing was published for it."""
        key = _key_of(name)
        if (channel := self._channels.get(key)) is None:
            channel = self._channels[key] = ChannelLog(name)
        return channel

    def forget(self, channel: ChannelLog) -> None:
        """Remove an empty channel without readers: clients can invent any number of names."""
        key = _key_of(channel.name)
        if not channel.readers and not len(channel) and self._channels.get(key) is channel:
            del self._channels[key]

    def add(self, partition: int, records: Sequence[Record]) -> None:
        """See `TopicHub`."""
        skus = self._skus
        by_channel: defaultdict[bytes, list[tuple[int, int, bytes | None]]] = defaultdict(list)
        for record in records:
            key, _, sku = (record.key or b"").partition(b"/")
            if (number := skus.get(sku)) is None:
                number = skus[sku] = len(skus)
            by_channel[key].append((number, record.offset, record.value))
        self._next[partition] = records[-1].offset + 1
        for key, updates in by_channel.items():
            try:
                channel = self._channels.get(key) or self.channel(split_key(f"{key.decode()}/")[0])
            except UnicodeDecodeError:
                log.error("invalid key in channel-stock at %d/%d; skipped", partition, updates[0][1])
                continue
            if channel.add(partition, updates):
                channel.wake()
        self._has_moved()

    def _wake_all(self) -> None:
        for channel in self._channels.values():
            channel.wake()


def _key_of(channel: str) -> bytes:
    """The first part of the keys of a channel's updates."""
    return join_key(channel, "")[:-1].encode()
