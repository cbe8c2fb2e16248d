"""Reads topics backward, newest first, in windows whose records and bytes are bounded.

In: a consumer without a group, and an offset of each partition to go back from. Out: records, merged by their times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from stocktide.streams.kafka.read_topic import read_topic

if TYPE_CHECKING:  # the transport imports Faust, which the API and the commands do without
    from stocktide.streams.kafka.transport import Record

# The first window; later windows are sized to about WINDOW_BYTES, which bounds their time and memory for records of any
# size.
WINDOW_RECORDS_FIRST = 200
WINDOW_RECORDS_MAX = 20_000
# Of a reader of a few thousand records, which may end anywhere in a window: it reads little more than it gives.
WINDOW_RECORDS_READ_MAX = 2_000
WINDOW_BYTES = 8 * 1024 * 1024
# Of a larger window only the end is kept; the rest is read again later.
WINDOW_BYTES_MAX = 32 * 1024 * 1024

# Records that are given before other tasks have their turn: some ms of their reader's work.
RECORDS_PER_TURN = 500

_Item = TypeVar("_Item")


class Window(Generic[_Item]):
    """What was read from `start` on: items with their offsets, and the bytes of all, of which the newest are kept."""

    def __init__(self, start: int, bytes_max: int = WINDOW_BYTES_MAX) -> None:
        self.start = start
        self.bytes = 0
        self.kept: deque[tuple[int, _Item]] = deque()
        self._bytes_max = bytes_max
        self._sizes: deque[int] = deque()
        self._held = 0

    def add(self, offset: int, item: _Item, size: int) -> None:
        """Add the next item; the oldest ones go where they are too many bytes."""
        self.kept.append((offset, item))
        self._sizes.append(size)
        self.bytes += size
        self._held += size
        while self._held > self._bytes_max and len(self.kept) > 1:
            self.start = self.kept.popleft()[0] + 1
            self._held -= self._sizes.popleft()


def next_window_records(records: int, size: int) -> int:
    """How many records the next window has, where this one had `records` of `size` bytes."""
    return min(max(records * WINDOW_BYTES // max(1, size), 1), WINDOW_RECORDS_MAX)


class BackwardReader:
    """Goes back from `places` (each the offset after the newest record that is wanted) to `floors`. `places` moves with
    it: a reader that begins there goes on. `given` counts the records so far. Records of one partition keep their
    order; those of several are merged by their times."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        places: Mapping[TopicPartition, int],
        floors: Mapping[TopicPartition, int],
        window_records: int = WINDOW_RECORDS_FIRST,
    ) -> None:
        self._consumer = consumer
        self._floors = floors
        self.places = dict(places)
        self._records = dict.fromkeys(places, window_records)
        self._windows: dict[TopicPartition, Window[Record]] = {}
        self.given = 0

    @property
    def ended(self) -> bool:
        """Whether everything down to the floors was given."""
        return all(place <= self._floors[part] for part, place in self.places.items())

    async def records(self) -> AsyncIterator[tuple[TopicPartition, Record]]:
        """The records, newest first. Raises KafkaError."""
        while True:
            await self._fill()
            heads = [(window.kept[-1][1].timestamp, part) for part, window in self._windows.items()]
            if not heads:
                return
            _, part = max(heads)
            offset, record = self._windows[part].kept.pop()
            self.places[part] = offset
            self.given += 1
            if self.given % RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)
            yield part, record

    async def _fill(self) -> None:
        """Read the next window of each partition of which nothing is left."""
        while empty := [part for part in self.places if part not in self._windows or not self._windows[part].kept]:
            for part in empty:
                if (window := self._windows.pop(part, None)) is not None:
                    self.places[part] = window.start
            wanted = {part: self.places[part] for part in empty if self.places[part] > self._floors[part]}
            if not wanted:
                return
            await self._read(wanted)

    async def _read(self, ends: Mapping[TopicPartition, int]) -> None:
        others = self._consumer.assignment() - ends.keys()
        self._consumer.pause(*others)
        self._consumer.resume(*ends)
        for part, end in ends.items():
            self._windows[part] = Window(max(self._floors[part], end - self._records[part]))
            self._consumer.seek(part, self._windows[part].start)
        async for part, records in read_topic(self._consumer, ends):
            for record in records:
                self._windows[part].add(record.offset, record, len(record.value or b""))
        for part in ends:
            fitting = next_window_records(self._records[part], self._windows[part].bytes)
            self._records[part] = min(fitting, WINDOW_RECORDS_READ_MAX)
