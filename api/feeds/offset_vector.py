"""A cut through the topic `channel-stock`: for each partition the offset that a reader wants next.

It is the `id` of a feed's frames, as text `12-0-33-7`. Whoever has seen everything below a cut, and says so, is sent
what lies at or above it: exactly what was missed, whichever API process it asks.
"""

from __future__ import annotations

OffsetVector = tuple[int, ...]
# The largest id that a header may hold: 256 partitions of 19 digits would be 5 KiB; anything longer is nonsense.
TEXT_LENGTH_MAX = 6 * 1024
# Kafka's offsets are 63 bits wide.
_OFFSET_MAX = 2**63 - 1


def format_offsets(cut: OffsetVector) -> str:
    """`(12, 0, 33)` → `12-0-33`."""
    return "-".join(map(str, cut))


def parse_offsets(text: str, partitions: int) -> OffsetVector | None:
    """The cut that a client names; None where that is no cut through so many partitions."""
    if len(text) > TEXT_LENGTH_MAX:
        return None
    parts = text.split("-")
    if len(parts) != partitions or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    cut = tuple(map(int, parts))
    return cut if all(offset <= _OFFSET_MAX for offset in cut) else None


def dominates(cut: OffsetVector, other: OffsetVector) -> bool:
    """Whether everything below `other` is below `cut` too."""
    return all(mine >= theirs for mine, theirs in zip(cut, other, strict=True))


def merge_offsets(cut: OffsetVector, other: OffsetVector) -> OffsetVector:
    """The least cut that covers both."""
    return tuple(map(max, cut, other))
