"""Moves the offsets of `reservations` that rows of `webhook-acks` hold to the new offsets of the same records.

In: the archived records of both partitions. Out: the records of `webhook-acks` as they are to be written. Without it a
webhook would leave out orders after a restore, or send those of years again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from stocktide.agents.webhooks.queues import Progress, progress_key
from stocktide.ops.backup.archive import ArchivedRecord
from stocktide.streams.contract.documents import encode
from stocktide.streams.topics import split_key

_decode_progress = msgspec.json.Decoder(Progress).decode


def with_moved_progress(
    acks: Callable[[], Iterable[ArchivedRecord]], orders: Callable[[], Iterable[ArchivedRecord]]
) -> Iterator[ArchivedRecord]:
    """The records of `acks`, read twice; `orders` is read once."""
    moved = new_offsets({progress.next for each in acks() if (progress := _progress_of(each)) is not None}, orders())
    for record in acks():
        if (progress := _progress_of(record)) is None:
            yield record
        else:
            value = encode(msgspec.structs.replace(progress, next=moved[progress.next]))
            yield msgspec.structs.replace(record, value=value)


def _progress_of(record: ArchivedRecord) -> Progress | None:
    """The progress of a queue of orders; None if the record is another one."""
    if record.key is None or record.value is None or split_key(record.key.decode())[1] != progress_key("orders"):
        return None
    return _decode_progress(record.value)


def new_offsets(wanted: Iterable[int], records: Iterable[ArchivedRecord]) -> dict[int, int]:
    """The number of records before each wanted offset."""
    waiting, moved, count = sorted(wanted, reverse=True), {}, 0
    for record in records if waiting else ():
        while waiting and record.offset >= waiting[-1]:
            moved[waiting.pop()] = count
        count += 1
    return moved | dict.fromkeys(waiting, count)
