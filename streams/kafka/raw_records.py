"""Lets the consumers of a process deliver records as aiokafka's C parser makes them.

In: aiokafka's fetches. Out: the same records, without topic and partition. aiokafka makes a dataclass of each record
and yields it through two Python frames: half of the time in which a consumer gets millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher


class _RawPartitionRecords(fetcher.PartitionRecords):
    """The records of one fetch of a partition."""

    def __iter__(self) -> Iterator[Any]:
        return self._records_iterator  # type: ignore[no-any-return]

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record


def deliver_raw_records() -> None:
    """Apply to all consumers of this process. Idempotent."""
    fetcher.PartitionRecords = _RawPartitionRecords
