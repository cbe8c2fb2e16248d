"""The newest changes of orders, for the readers of all channels; bounded in bytes.

In: records of `reservations` in the order of their partition, from where the topic ended when the reading began. Out:
for each channel its rows in order of arrival, which any number of readers read. A row is encoded when a reader first
needs it, once for all readers; the id of its frame is the vector of everything read so far, so all readers that began
before it get the same bytes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from stocktide.api.feeds.channel import CHUNKS_KEPT_MAX
from stocktide.api.feeds.frames import SSE
from stocktide.api.feeds.hub import TopicHub
from stocktide.api.feeds.offset_vector import EventIds, OffsetVector, dominates
from stocktide.streams.contract.documents import order_document

if TYPE_CHECKING:  # the transport imports Faust, which the API does without
    from stocktide.streams.kafka.transport import Record

log = logging.getLogger(__name__)

# Some 12,000 changes: seconds of full load. A client that resumes from before them is served from Kafka.
BYTES_MAX = 16 * 1024 * 1024
# What a row takes beside its bytes, and beside the offsets of its vector.
ROW_BYTES = 550
OFFSET_BYTES = 40


class RowHead(Struct, frozen=True, gc=False):
    """What tells whether a row is for a reader, and whether it is newer than another one of its order."""

    order_id: str
    channel: str
    sequence: int
    batch: int
    restated: bool = False

    @property
    def version(self) -> tuple[int, int]:
        """Grows with every change of the order."""
        return self.sequence, self.batch


decode_head = msgspec.json.Decoder(RowHead).decode


@dataclass(slots=True)
class OrderRow:
    """A kept row; `vector`: everything below it was read with this row. `data` is the row, and the order as readers get
    it once one has needed it."""

    head: RowHead
    partition: int
    offset: int
    vector: OffsetVector
    data: bytes
    size: int
    is_document: bool = False

    def frame(self, frame_id: str) -> bytes:
        """The frame with an id."""
        if not self.is_document:
            self.data, self.is_document = order_document(self.data), True
        return SSE.event("order", self.data, frame_id)


class ChannelOrders:
    """The kept rows of one channel, numbered from `first` on."""

    def __init__(self, name: str, ids: EventIds) -> None:
        self.name = name
        self.first = 0
        self._ids = ids
        self.readers: set[Callable[[], None]] = set()
        self._rows: deque[OrderRow] = deque()
        # The next frames of a reader, and its position after them, until the rows change.
        self._chunks: dict[int, tuple[bytes, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def end(self) -> int:
        """The number of the next row."""
        return self.first + len(self._rows)

    def append(self, row: OrderRow) -> None:
        """Append a row."""
        self._rows.append(row)
        self._chunks.clear()

    def drop_first(self) -> OrderRow:
        """Remove the oldest row."""
        self.first += 1
        self._chunks.clear()
        return self._rows.popleft()

    def after(self, position: int, bytes_max: int) -> tuple[bytes, int]:
        """The next frames of a reader that was sent everything before `position`, about `bytes_max` bytes, and its
        position after them. A row that only states an order again is left out."""
        if position == self.end:
            return b"", position
        if (chunk := self._chunks.get(position)) is None:
            frames, size, following = [], 0, position
            for row in islice(self._rows, position - self.first, None):
                if size >= bytes_max:
                    break
                following += 1
                if not row.head.restated:
                    frames.append(row.frame(self._ids.format(row.vector)))
                    size += len(frames[-1])
            chunk = b"".join(frames), following
            if len(self._chunks) >= CHUNKS_KEPT_MAX:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[position] = chunk
        return chunk

    def missed(self, position: int, seen: OffsetVector, bytes_max: int) -> tuple[bytes, int, OffsetVector]:
        """The same for a client that resumes: the rows from `position` on that are not below `seen`, with the client's
        own ids. Rows that state an order again are sent: they may be all that compaction left of a change."""
        offsets, frames, size = list(seen), [], 0
        for row in islice(self._rows, position - self.first, None):
            if size >= bytes_max:
                break
            position += 1
            if row.offset >= offsets[row.partition]:
                offsets[row.partition] = row.offset + 1
                frames.append(row.frame(self._ids.format(offsets)))
                size += len(frames[-1])
        return b"".join(frames), position, tuple(offsets)

    def wake(self) -> None:
        """Notify every reader."""
        for notify in self.readers:
            notify()


class OrderHub(TopicHub):
    """The changes of all orders since `floor`, at most `bytes_max` bytes."""

    def __init__(self, partitions: int, bytes_max: int = BYTES_MAX, epoch: str = "") -> None:
        super().__init__(partitions, epoch)
        self._bytes_max = bytes_max
        self._row_bytes = ROW_BYTES + OFFSET_BYTES * partitions
        self._channels: dict[str, ChannelOrders] = {}
        # The channel of each kept row, oldest row first.
        self._kept: deque[ChannelOrders] = deque()
        self._newest: dict[str, tuple[int, int]] = {}
        self.bytes = 0
        # Every row that is not below this vector is kept.
        self.floor = self.position
        # Partitions with a gap in their offsets, until their end is reached. Compaction made it: a row that states an
        # order again may be all that it left of a change.
        self.gaps: set[int] = set()

    def begin(self, position: OffsetVector, epoch: str | None = None) -> None:
        """Forget everything, and continue with the rows from `position` on; with `epoch`, of another log."""
        if epoch is not None:
            self.ids = EventIds(epoch)
        self.beginnings += 1
        self._wake_all()
        for kept in (self._channels, self._kept, self._newest, self.gaps):
            kept.clear()
        self.bytes = 0
        self._next, self.floor = list(position), position
        self._has_moved()

    def covers(self, seen: OffsetVector) -> bool:
        """Whether every row that is not below `seen` is kept."""
        return dominates(seen, self.floor)

    def channel(self, name: str) -> ChannelOrders:
        """The rows of a channel."""
        if (channel := self._channels.get(name)) is None:
            channel = self._channels[name] = ChannelOrders(name, self.ids)
        return channel

    def forget(self, channel: ChannelOrders) -> None:
        """Remove a channel without rows and readers: clients can invent any number of names."""
        if not channel.readers and not len(channel) and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def add(self, partition: int, records: Sequence[Record]) -> None:
        """See `TopicHub`."""
        changed: dict[str, ChannelOrders] = {}
        for record in records:
            if record.offset > self._next[partition]:
                self.gaps.add(partition)
            self._next[partition] = record.offset + 1
            if record.value is None:  # a repair removed the order
                continue
            try:
                head = decode_head(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                log.error("not an order in reservations at %d/%d; skipped", partition, record.offset)
                continue
            # Rows of a late writer, or repeats.
            if head.version <= self._newest.get(head.order_id, (-1, 0)):
                continue
            if head.restated and partition in self.gaps:
                head = msgspec.structs.replace(head, restated=False)
            channel = changed[head.channel] = self.channel(head.channel)
            size = len(record.value) + self._row_bytes
            channel.append(OrderRow(head, partition, record.offset, self.position, record.value, size))
            self._newest[head.order_id] = head.version
            self._kept.append(channel)
            self.bytes += size
        while self.bytes > self._bytes_max and len(self._kept) > 1:
            self._drop_oldest()
        for channel in changed.values():
            channel.wake()
        self._has_moved()

    def _drop_oldest(self) -> None:
        channel = self._kept.popleft()
        row = channel.drop_first()
        self.bytes -= row.size
        self.floor = row.vector
        if self._newest.get(row.head.order_id) == row.head.version:
            del self._newest[row.head.order_id]
        self.forget(channel)

    def _wake_all(self) -> None:
        for channel in self._channels.values():
            channel.wake()
