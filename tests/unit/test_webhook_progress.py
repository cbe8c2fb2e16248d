"""The progress of webhooks moves with the orders of a backup."""

from __future__ import annotations

import orjson

from stocktide.agents.webhooks.queues import Acknowledged, Progress
from stocktide.ops.backup.archive import ArchivedRecord
from stocktide.ops.backup.webhook_progress import with_moved_progress
from stocktide.streams.contract.documents import encode

ORDERS = [ArchivedRecord(offset, 0, b"o", b"{}") for offset in (4, 5, 9, 20)]


def moved_to(*offsets: int) -> list[int]:
    """What becomes of the next offsets of webhooks."""
    acks = [ArchivedRecord(at, 0, b"w/ orders", encode(Progress("e-0", (), at))) for at in offsets]
    return [orjson.loads(record.value or b"")["next"] for record in with_moved_progress(lambda: acks, lambda: ORDERS)]


def test_the_next_offset_becomes_the_number_of_orders_before_it() -> None:
    assert moved_to(21, 4, 9, 6, 0, 9, 10, 100) == [4, 0, 2, 2, 0, 2, 3, 4]


def test_all_other_records_stay_as_they_are() -> None:
    values = (encode(Acknowledged("e-0", 7, 1)), encode(Progress("e-0")), None, b"{}")
    keys = (b"w/sku", b"w/ stock", b"w/ orders", None)
    acks = [ArchivedRecord(at, 0, key, value) for at, (key, value) in enumerate(zip(keys, values, strict=True))]
    assert list(with_moved_progress(lambda: acks, lambda: ORDERS)) == acks
