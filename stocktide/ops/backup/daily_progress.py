"""Moves the offsets that rows of `daily` hold to the new offsets of the same records.

In: the archived records of `daily` and of the topics that are counted in it. Out: the records of `daily` as they are to
be written. Without it a restored system would count nothing until its new records have passed the old offsets.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from stocktide.ops.backup.archive import ArchivedRecord
from stocktide.ops.backup.webhook_progress import new_offsets
from stocktide.streams.contract.daily import FOLLOWED_KEY, LETTERS, SWITCHES

_KINDS = frozenset((FOLLOWED_KEY, LETTERS, SWITCHES))


def with_moved_offsets(
    daily: Callable[[], Iterable[ArchivedRecord]], counted: Callable[[str], Iterable[ArchivedRecord]]
) -> Iterator[ArchivedRecord]:
    """The records of `daily`, read twice; `counted` gives those of a place (`alerts/0`), read once each."""
    wanted: defaultdict[str, set[int]] = defaultdict(set)
    for record in daily():
        for place, offset in (_row_of(record) or {}).get("through", {}).items():
            wanted[place].add(offset)
    moved = {place: new_offsets(offsets, counted(place)) for place, offsets in wanted.items()}
    for record in daily():
        if (row := _row_of(record)) is None:
            yield record
        else:
            through = {place: moved[place][offset] for place, offset in row["through"].items()}
            yield msgspec.structs.replace(record, value=json.dumps({**row, "through": through}).encode())


def _row_of(record: ArchivedRecord) -> dict[str, Any] | None:
    """The row, if it holds offsets."""
    if record.key is None or record.value is None or record.key.decode().partition("/")[0] not in _KINDS:
        return None
    row: dict[str, Any] = json.loads(record.value)
    return row
