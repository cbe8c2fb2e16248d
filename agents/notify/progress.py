"""How far one receiver has got in one partition of `alerts`: what is committed to its consumer group.

In: offsets that were read and are done. Out: the offset to commit, and as its metadata the offsets after it that are
done: an alert that a quiet time holds back for a night does not let a restart send again all that followed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# Kafka takes 4,096 bytes of metadata (`offset.metadata.max.bytes`); what does not fit is sent again after a restart.
METADATA_BYTES_MAX = 4_000


class Progress:
    """One partition. `done`: offsets from `committed` on that a predecessor has sent."""

    def __init__(self, next_offset: int, done: Iterable[range] = ()) -> None:
        self.next = next_offset
        self._done = list(done)
        # Offset → the number of groups in which it waits.
        self._waiting: Counter[int] = Counter()
        self._committed: tuple[int, str] | None = None

    def is_done(self, offset: int) -> bool:
        """Whether a predecessor has sent it."""
        return any(offset in each for each in self._done)

    def read(self, offset: int, groups: int) -> None:
        """The next record was read, and waits in so many groups."""
        self.next = offset + 1
        if groups:
            self._waiting[offset] = groups

    def finish(self, offset: int) -> None:
        """A record is done in one group."""
        self._waiting[offset] -= 1
        if self._waiting[offset] <= 0:
            del self._waiting[offset]

    def to_commit(self) -> tuple[int, str] | None:
        """The offset and its metadata; None if they are as committed."""
        waiting = sorted(self._waiting)
        offset = waiting[0] if waiting else self.next
        ends = [*waiting, self.next]
        ranges = (range(at + 1, end) for at, end in zip(waiting, ends[1:], strict=True))
        ahead = [part for each in ranges for part in [each] if part]
        behind = [part for each in self._done if (part := range(max(each.start, self.next), each.stop))]
        found = (offset, _encode(offset, [*ahead, *behind]))
        return None if found == self._committed else found

    def committed(self, found: tuple[int, str]) -> None:
        """What `to_commit` gave was committed."""
        self._committed = found


def decode_done(offset: int, metadata: str) -> list[range]:
    """The ranges in the metadata of a committed offset; none where another program has written it."""
    ranges, at = [], offset
    try:
        for part in metadata.split():
            skipped, length = part.split("+")
            at += int(skipped)
            ranges.append(range(at, at + int(length)))
            at += int(length)
    except ValueError:
        return []
    return ranges


def _encode(offset: int, ranges: Iterable[range]) -> str:
    """`3+4 1+2`: three are not done, four are, one is not, two are."""
    parts: list[str] = []
    size, at = 0, offset
    for each in ranges:
        part = f"{each.start - at}+{len(each)}"
        size += len(part) + 1
        if size > METADATA_BYTES_MAX:
            break
        parts.append(part)
        at = each.stop
    return " ".join(parts)
