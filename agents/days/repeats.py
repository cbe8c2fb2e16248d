"""Recognises rows that were written again.

In: what identifies a row, by the place (topic and partition) in which it was read. Out: whether it is new. A worker
that is killed between a row and what follows it has a successor that writes the same row again, soon after and in the
same partition. So the newest rows are remembered, and read back after a start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from stocktide.streams.topics import ALERTS, DEAD_LETTERS

# Records before the first one to count that are read back, of a partition. A worker leaves two writes of 2,000 alerts
# at the most (`agents.channel_stock`); dead letters have their events, of up to a MiB.
READ_BACK_RECORDS = {ALERTS: 5_000, DEAD_LETTERS: 200}
# Rows that are remembered of all partitions, by hashes of 64 bits: some 12 MB.
ROWS_MAX = 100_000


class RepeatFilter:
    """The rows that were seen; one for each beginning, since rows are read again after an error."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def is_new(self, place: str, identity: Hashable) -> bool:
        """Whether it was not seen in this place; then it is now."""
        key = hash((place, identity))
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > ROWS_MAX:
            self._seen.popitem(last=False)
        return True
