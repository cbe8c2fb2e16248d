"""The log of one channel: the newest update of each SKU, in order of arrival.

In: rows of `channel-stock`. Out: frames of the feed, for any number of readers with a position each. A superseded row
leaves a gap, and its successor is appended at the end: a slow reader skips stale rows, and the cost of an addition does
not depend on the number of readers. A large shop has millions of rows, so a row is the bytes of its update and a few
numbers in arrays; frames are made when they are read.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from itertools import accumulate, compress, repeat
from typing import NamedTuple

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from stocktide.api.feeds.frames import COMMON, MARK, SSE, FrameFormat
from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.api.feeds.selection import Selection
from stocktide.streams.contract.documents import encode

log = logging.getLogger(__name__)

# Gaps are removed when they are more than half of the rows, and the rows are more than this.
GAPS_SWEPT_FROM = 256
# The index by SKU grows by so many.
SKUS_STEP = 4096
# Subscribers that connect together, or that wait for the next update, read the same few chunks.
CHUNKS_KEPT_MAX = 16
# An offset and its partition are kept as one number.
PARTITIONS_MAX = 256
# A reader of few SKUs passes over others: this many rows block the loop for about 5 ms.
ROWS_SCANNED_MAX = 10_000


class _Versioned(Struct, gc=False):
    version: int


_decode = Decoder(_Versioned).decode


class Cursor(NamedTuple):
    """The progress of a reader: its position in the log, and the offset vector below which it was sent everything.

    A client that resumes needs no row below `since`, its vector when it came, until it is synced.
    """

    position: int
    seen: OffsetVector
    since: OffsetVector | None = None


class View(NamedTuple):
    """What readers get of a log, and how. Readers with the same view and cursor share the bytes. `selection` None is
    the whole channel; without `has_ids` frames have no id."""

    frames: FrameFormat = SSE
    id_head: str = ""
    id_tail: str = ""
    selection: Selection | None = None
    has_ids: bool = True


WHOLE = View()


class Backlog:
    """What a reader gets of rows before its cursor, because it selected them later: rows of SKUs by their numbers, and
    those that a selection has. Rows that were superseded since come after the cursor."""

    def __init__(self, skus: Iterable[int], prefixes: Selection | None, end: int) -> None:
        self.skus = deque(skus)
        self.prefixes = prefixes
        self.position = 0
        self.end = end

    @property
    def is_done(self) -> bool:
        """Whether everything was read."""
        return not self.skus and (self.prefixes is None or self.position >= self.end)


class ChannelLog:
    """The log of one channel. Positions only increase; a reader at `end` has read everything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.end = 0
        self.readers: set[Callable[[], None]] = set()
        # Every update of the channel begins with these bytes; they are not kept with each.
        self._head = encode({"channel": name})[:-1] + b',"sku":'
        self._saved = len(self._head) + len(COMMON) - len(MARK)
        # One item for each row, a gap being None.
        self._rows: list[bytes | None] = []
        self._numbers = array("Q")
        self._places = array("Q")
        # By the number of a SKU: the index of its row + 1, or 0.
        self._at = array("I")
        self._count = 0
        # The next frames of a reader, and its cursor after them, until the log changes.
        self._chunks: dict[tuple[Cursor, View], tuple[bytes, Cursor]] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, sku: object) -> bool:
        return isinstance(sku, int) and sku < len(self._at) and self._at[sku] > 0

    def add(self, partition: int, updates: Iterable[tuple[int, int, bytes | None]]) -> bool:
        """Append the next updates of a partition: the number of a SKU, the offset, the JSON (None removes the SKU).
        False if all of them are as old as the present ones (rows of a late writer, or repeats)."""
        at, rows, head = self._at, self._rows, self._head
        before = len(rows)
        for sku, offset, update in updates:
            if sku >= len(at):
                at.extend(repeat(0, sku + SKUS_STEP - len(at)))
            if update is None:
                self._remove(sku)
                continue
            row = update.removeprefix(head).replace(COMMON, MARK, 1)
            # An update with the usual parts is decoded only if it has a predecessor.
            if at[sku] or len(update) - len(row) != self._saved:
                try:
                    if not self._is_newer(sku, update, row):
                        continue
                except (DecodeError, UnicodeDecodeError):
                    log.error("not an update in channel-stock at %d/%d; skipped", partition, offset)
                    continue
                self._remove(sku)
            rows.append(row)
            self._places.append(offset * PARTITIONS_MAX + partition)
            at[sku] = len(rows)
        added = len(rows) - before
        self._numbers.extend(range(self.end + 1, self.end + added + 1))
        self.end += added
        self._count += added
        self._chunks.clear()
        if len(rows) > GAPS_SWEPT_FROM and len(rows) > 2 * self._count:
            self._remove_gaps()
        return added > 0

    def resume(self, since: OffsetVector) -> Cursor:
        """The cursor of a client that resumes. A partition's rows are in the order of their offsets: all before one
        that is below `since` are, too."""
        waiting = set(range(len(since)))
        for index in reversed(range(len(self._places))):
            offset, partition = divmod(self._places[index], PARTITIONS_MAX)
            if offset < since[partition]:
                waiting.discard(partition)
                if not waiting:
                    return Cursor(self._numbers[index], since, since)
        return Cursor(0, since, since)

    def after(self, cursor: Cursor, read: OffsetVector, bytes_max: int, view: View = WHOLE) -> tuple[bytes, Cursor]:
        """The next frames for a reader, about `bytes_max` bytes, and its cursor after them. They may be empty before
        the end: then so many rows were passed over that others should have a turn.

        `read` is the vector below which everything was read; with the last frame the reader was sent that.
        """
        if cursor.position == self.end:
            return b"", cursor
        if (chunk := self._chunks.get((cursor, view))) is None:
            chunk = self._encode(cursor, read, bytes_max, view)
            if len(self._chunks) >= CHUNKS_KEPT_MAX:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[cursor, view] = chunk
        return chunk

    def earlier(self, backlog: Backlog, bytes_max: int, frames: FrameFormat) -> bytes:
        """The next frames of a backlog, without ids; they may be empty before its end."""
        found: list[bytes] = []
        size = 0
        while backlog.skus and size < bytes_max:
            sku = backlog.skus.popleft()
            index = self._at[sku] - 1 if sku < len(self._at) else -1
            row = self._rows[index] if index >= 0 else None
            if row is not None and self._numbers[index] <= backlog.end:
                found.append(self._frame(frames, row, None))
                size += len(found[-1])
        if backlog.prefixes is None or backlog.skus:
            return frames.join(found)
        begin = bisect_right(self._numbers, backlog.position)
        until = min(bisect_right(self._numbers, backlog.end), begin + ROWS_SCANNED_MAX)
        for index in range(begin, until):
            if size >= bytes_max:
                return frames.join(found)
            backlog.position = self._numbers[index]
            row = self._rows[index]
            if row is not None and backlog.prefixes.has(row):
                found.append(self._frame(frames, row, None))
                size += len(found[-1])
        if until - begin < ROWS_SCANNED_MAX:
            backlog.position = backlog.end
        return frames.join(found)

    def wake(self) -> None:
        """Notify every reader."""
        for notify in self.readers:
            notify()

    def _encode(self, cursor: Cursor, read: OffsetVector, bytes_max: int, view: View) -> tuple[bytes, Cursor]:
        position, seen, since = cursor
        offsets, texts = list(seen), list(map(str, seen))
        frames: list[bytes] = []
        last, size, selection = b"", 0, view.selection
        begin = bisect_right(self._numbers, position)
        until = len(self._rows) if selection is None else min(len(self._rows), begin + ROWS_SCANNED_MAX)
        for index in range(begin, until):
            row = self._rows[index]
            if row is None:
                continue
            offset, partition = divmod(self._places[index], PARTITIONS_MAX)
            if (since is not None and offset < since[partition]) or (selection is not None and not selection.has(row)):
                continue
            if size >= bytes_max:
                return view.frames.join(frames), Cursor(self._numbers[index] - 1, tuple(offsets), since)
            offsets[partition] = offset + 1
            texts[partition] = str(offset + 1)
            last = row
            frame_id = f"{view.id_head}{'-'.join(texts)}{view.id_tail}" if view.has_ids else None
            frames.append(self._frame(view.frames, row, frame_id))
            size += len(frames[-1])
        if until < len(self._rows):
            return view.frames.join(frames), Cursor(self._numbers[until - 1], tuple(offsets), since)
        if not frames:
            return b"", Cursor(self.end, seen, since)
        if view.has_ids:
            last_id = f"{view.id_head}{'-'.join(map(str, read))}{view.id_tail}"
            frames[-1] = self._frame(view.frames, last, last_id)
        return view.frames.join(frames), Cursor(self.end, read, since)

    def _frame(self, frames: FrameFormat, row: bytes, frame_id: str | None) -> bytes:
        head = b"" if row.startswith(b"{") else self._head
        return frames.stock(head, row, frame_id)

    def _is_newer(self, sku: int, update: bytes, row: bytes) -> bool:
        """Whether an update replaces the present one of its SKU. Raises DecodeError or UnicodeDecodeError."""
        version = _decode(update).version
        held = self._rows[self._at[sku] - 1] if self._at[sku] else None
        if held is None:
            return True
        update_held = held.replace(MARK, COMMON, 1)
        held_version = _decode(update_held if held.startswith(b"{") else self._head + update_held).version
        return version > held_version or (version == held_version and row != held)

    def _remove(self, sku: int) -> None:
        if index := self._at[sku]:
            self._rows[index - 1] = None
            self._at[sku] = 0
            self._count -= 1

    def _remove_gaps(self) -> None:
        live = [row is not None for row in self._rows]
        moved = [0, *accumulate(live)]
        self._at = array("I", map(moved.__getitem__, self._at))
        self._rows = list(compress(self._rows, live))
        self._numbers = array("Q", compress(self._numbers, live))
        self._places = array("Q", compress(self._places, live))
