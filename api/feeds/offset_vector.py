"""The id of a feed's frames: an epoch, and the offset vector of the topic, which has the next offset of each partition.

As text it is `3f0a61c2b97e.12-0-33-7`. A client that resumes with the id of its last frame gets the rows at or above
the vector, which are exactly those it missed, from any API process. The epoch is the identity of the log: offsets of
another log mean nothing here, and lead to a whole snapshot. The id of a client that does not get the whole channel also
names what it gets (`3f0a61c2b97e.12-0-33-7.9d41c0ffee12`): of other SKUs it has not seen what lies below the vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

OffsetVector = tuple[int, ...]
# 256 partitions of 19 digits have 5 KiB; a longer text is invalid.
TEXT_LENGTH_MAX = 6 * 1024
# Characters of an epoch: 48 bits. Two logs of one installation have the same one with a probability of 10^-14.
EPOCH_LENGTH = 12
# Kafka's offsets have 63 bits.
_OFFSET_MAX = 2**63 - 1


class UnusableId(str):
    """Why a feed cannot continue from a client's id: the `reason` of `reset`."""

    __slots__ = ()


MALFORMED_ID = UnusableId("malformed_id")
OTHER_EPOCH = UnusableId("other_epoch")
OTHER_SUBSCRIPTION = UnusableId("other_subscription")
UNKNOWN_ID = UnusableId("unknown_id")


def make_epoch(topic_id: str, generation: str) -> str:
    """The epoch of the topic with this id; `generation` is the operator's, for a log that went back with its id."""
    return hashlib.sha256(f"{topic_id}/{generation}".encode()).hexdigest()[:EPOCH_LENGTH]


def format_offsets(offsets: Iterable[int]) -> str:
    """`(12, 0, 33)` → `12-0-33`."""
    return "-".join(map(str, offsets))


def parse_offsets(text: str, partitions: int) -> OffsetVector | None:
    """The vector in a text; None if the text is not a vector of so many partitions."""
    if len(text) > TEXT_LENGTH_MAX:
        return None
    parts = text.split("-")
    if len(parts) != partitions or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    offsets = tuple(map(int, parts))
    return offsets if all(offset <= _OFFSET_MAX for offset in offsets) else None


class EventIds:
    """Formats and parses the ids of one log. Without an epoch (in tests of one log) an id is the bare vector."""

    def __init__(self, epoch: str = "") -> None:
        self.epoch = epoch
        self.head = f"{epoch}." if epoch else ""

    def format(self, offsets: Iterable[int], tail: str = "") -> str:
        """The id; `tail` is that of the selection (`.9d41c0ffee12`), empty for the whole channel."""
        return f"{self.head}{format_offsets(offsets)}{tail}"

    def parse(self, text: str, partitions: int, tail: str = "") -> OffsetVector | UnusableId:
        """The vector from which a client with this selection can continue, or the reason why there is none. The id of a
        client that got the whole channel is good for any selection."""
        if len(text) > TEXT_LENGTH_MAX:
            return MALFORMED_ID
        parts = text.split(".")
        if self.epoch:
            epoch, *parts = parts
            if not _is_epoch(epoch) or not parts:
                return MALFORMED_ID
            if epoch != self.epoch:
                return OTHER_EPOCH
        offsets = parse_offsets(parts[0], partitions)
        if offsets is None or len(parts) > 2 or not all(map(_is_epoch, parts[1:])):
            return MALFORMED_ID
        if parts[1:] and f".{parts[1]}" != tail:
            return OTHER_SUBSCRIPTION
        return offsets


def dominates(offsets: OffsetVector, other: OffsetVector) -> bool:
    """Whether each offset of `offsets` is at least that of `other`."""
    return all(mine >= theirs for mine, theirs in zip(offsets, other, strict=True))


def _is_epoch(text: str) -> bool:
    return len(text) == EPOCH_LENGTH and all(character in "0123456789abcdef" for character in text)
