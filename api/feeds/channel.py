"""The log of one channel: the newest update of each SKU, in order of arrival.

In: rows of `channel-stock`. Out: frames of the feed, for any number of readers with a position each. A superseded row
leaves a gap, and its successor is appended at the end: a slow reader skips stale rows, and the cost of an addition does
not depend on the number of readers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from msgspec import Struct

from stocktide.api.feeds.offset_vector import OffsetVector

# Gaps are removed when they are more than half of the rows, and the rows are more than this.
GAPS_SWEPT_FROM = 256


class EncodedUpdate(Struct, frozen=True, gc=False):
    """The newest update of a SKU: its place in the topic, its version, its JSON, and its frame for all readers."""

    partition: int
    offset: int
    version: int
    data: bytes
    frame: bytes


class ChannelLog:
    """The log of one channel. Positions only increase; a reader at `end` has read everything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.end = 0
        self.readers: set[Callable[[], None]] = set()
        self._numbers: list[int] = []
        self._rows: list[EncodedUpdate | None] = []
        self._at: dict[str, int] = {}  # SKU → index of its row in both lists

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, sku: object) -> bool:
        return sku in self._at

    def add(self, sku: str, row: EncodedUpdate) -> bool:
        """Append a row; False if the present one is as new (the row of a late writer, or a repeat)."""
        index = self._at.get(sku)
        if index is not None:
            held = self._rows[index]
            assert held is not None
            if row.version < held.version or (row.version == held.version and row.data == held.data):
                return False
            self._rows[index] = None
        self._at[sku] = len(self._rows)
        self.end += 1
        self._numbers.append(self.end)
        self._rows.append(row)
        if len(self._rows) > GAPS_SWEPT_FROM and len(self._rows) > 2 * len(self._at):
            self._remove_gaps()
        return True

    def remove(self, sku: str) -> None:
        """Remove a SKU."""
        if (index := self._at.pop(sku, None)) is not None:
            self._rows[index] = None

    def after(self, position: int, bytes_max: int, since: OffsetVector | None = None) -> tuple[list[bytes], int]:
        """The next frames after `position`, about `bytes_max` bytes, and the position reached.

        With `since`, rows below that vector are skipped.
        """
        frames: list[bytes] = []
        size = 0
        rows = self._rows
        for index in range(bisect_right(self._numbers, position), len(rows)):
            row = rows[index]
            if row is None or (since is not None and row.offset < since[row.partition]):
                continue
            frames.append(row.frame)
            size += len(row.frame)
            if size >= bytes_max:
                return frames, self._numbers[index]
        return frames, self.end

    def wake(self) -> None:
        """Notify every reader."""
        for notify in self.readers:
            notify()

    def _remove_gaps(self) -> None:
        kept = [(number, row) for number, row in zip(self._numbers, self._rows, strict=True) if row is not None]
        sku_at = {index: sku for sku, index in self._at.items()}
        skus = [sku_at[index] for index, row in enumerate(self._rows) if row is not None]
        self._numbers = [number for number, _ in kept]
        self._rows = [row for _, row in kept]
        self._at = {sku: index for index, sku in enumerate(skus)}
