"""The offset vector of the topic `channel-stock`: the next offset of each partition.

It is the `id` of the frames of a feed, as text `12-0-33-7`. A client that resumes with the vector of its last frame
gets the rows at or above it, which are exactly those it missed, from any API process.
"""

from __future__ import annotations

from collections.abc import Iterable

OffsetVector = tuple[int, ...]
# 256 partitions of 19 digits have 5 KiB; a longer text is invalid.
TEXT_LENGTH_MAX = 6 * 1024
# Kafka's offsets have 63 bits.
_OFFSET_MAX = 2**63 - 1


def format_offsets(offsets: Iterable[int]) -> str:
    """`(12, 0, 33)` → `12-0-33`."""
    return "-".join(map(str, offsets))


def parse_offsets(text: str, partitions: int) -> OffsetVector | None:
    """The vector in a client's id; None if the text is not a vector of so many partitions."""
    if len(text) > TEXT_LENGTH_MAX:
        return None
    parts = text.split("-")
    if len(parts) != partitions or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    offsets = tuple(map(int, parts))
    return offsets if all(offset <= _OFFSET_MAX for offset in offsets) else None


def dominates(offsets: OffsetVector, other: OffsetVector) -> bool:
    """Whether each offset of `offsets` is at least that of `other`."""
    return all(mine >= theirs for mine, theirs in zip(offsets, other, strict=True))
