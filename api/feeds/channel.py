"""One channel's newest updates, in the order in which they came.

In: rows of `channel-stock`. Out: frames of the feed, to any number of readers, each of which holds nothing but a
position. A row that is superseded leaves a gap behind and stands again at the end: so a reader that falls behind
skips what is stale, and adding a row costs the same with one reader as with thousands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from msgspec import Struct

from stocktide.api.feeds.offset_vector import OffsetVector

# Gaps are swept out once they are the larger half; below this many it is not worth the copying.
GAPS_SWEPT_FROM = 256


class EncodedUpdate(Struct, frozen=True, gc=False):
    """The newest update of a SKU: where it lies, its version, its JSON, and its frame as every reader gets it."""

    partition: int
    offset: int
    version: int
    data: bytes
    frame: bytes


class ChannelLog:
    """The log of one channel. Positions are numbers that only grow; a reader at `end` has seen everything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.end = 0
        self.readers: set[Callable[[], None]] = set()
        self._numbers: list[int] = []
        self._rows: list[EncodedUpdate | None] = []
        self._at: dict[str, int] = {}  # sku → its row's index in the two lists

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, sku: object) -> bool:
        return sku in self._at

    def add(self, sku: str, row: EncodedUpdate) -> bool:
        """Put a row at the end; False where what is held is as new (a late writer's row, or the same again)."""
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
            self._sweep()
        return True

    def remove(self, sku: str) -> None:
        """Forget a SKU."""
        if (index := self._at.pop(sku, None)) is not None:
            self._rows[index] = None

    def after(self, position: int, bytes_max: int, since: OffsetVector | None = None) -> tuple[list[bytes], int]:
        """The next frames after `position`, about `bytes_max` of them, and the position reached.

        With `since`, rows that lie below that cut are passed over.
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
        """Tell every reader that there is more."""
        for tell in self.readers:
            tell()

    def _sweep(self) -> None:
        kept = [(number, row) for number, row in zip(self._numbers, self._rows, strict=True) if row is not None]
        old = {index: sku for sku, index in self._at.items()}
        skus = [old[index] for index, row in enumerate(self._rows) if row is not None]
        self._numbers = [number for number, _ in kept]
        self._rows = [row for _, row in kept]
        self._at = {sku: index for index, sku in enumerate(skus)}
