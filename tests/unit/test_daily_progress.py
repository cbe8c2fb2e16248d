"""After a restore the totals by day go on where they were: offsets move with their records."""

from __future__ import annotations

import json
from typing import Any

from stocktide.ops.backup.archive import ArchivedRecord
from stocktide.ops.backup.daily_progress import with_moved_offsets


def row(key: str, value: dict[str, Any] | None) -> ArchivedRecord:
    return ArchivedRecord(offset=0, timestamp=1, key=key.encode(), value=value and json.dumps(value).encode())


def records(*offsets: int) -> list[ArchivedRecord]:
    return [ArchivedRecord(offset=offset, timestamp=1, key=b"k", value=b"v") for offset in offsets]


def test_offsets_become_the_numbers_of_records_before_them_and_all_else_stays() -> None:
    counted = {"alerts/0": records(100, 101, 107), "alerts/1": [], "dead-letters/0": records(5)}
    rows = [
        row("switches/2026-11-11/jd", {"day": "2026-11-11", "through": {"alerts/0": 101, "alerts/1": 9}}),
        row("dead-letters/2026-11-11", {"through": {"dead-letters/0": 6}, "reasons": {"a": 1}}),
        row("followed", {"through": {"alerts/0": 108, "dead-letters/0": 6}}),
        row("orders/2026-11-11/followed", {"through": 77}),
        row("switches/2026-01-01/jd", None),
    ]
    moved = list(with_moved_offsets(lambda: rows, counted.__getitem__))
    assert [each.value and json.loads(each.value) for each in moved] == [
        {"day": "2026-11-11", "through": {"alerts/0": 1, "alerts/1": 0}},
        {"through": {"dead-letters/0": 1}, "reasons": {"a": 1}},
        {"through": {"alerts/0": 3, "dead-letters/0": 1}},
        {"through": 77},
        None,
    ]
