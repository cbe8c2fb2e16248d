"""The comparison of one key: the log's record with the content of Redis or a table.

In: the log's newest record of a key, and the key as read, both as of the same batch. Out: differences with their sides.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, Kind, Record, canonical, kept_until
from stocktide.tables.audit.redis_keys import SKU_INDEXES, StoredKey
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.queue_places import hold_place, place_in_queue
from stocktide.tables.ledger.records import AWAITING_APPROVAL, MovementRecord, OrderRecord, SkuRecord

Side = Literal["log", "redis", "table"]
# The key of the sums of unpaid units, by group (lua/includes/unpaid.lua).
UNPAID_SUMS = "unpaid"
# The subject of a drift: a record's kind, a policy level, or a foreign key in Redis.
Subject = Literal["sku", "order", "movement", "registry", "policy", "key"]
_NEVER = 1 << 60
ANNOUNCEMENT_INDEXES = ("expected", "etas", "overdue")


class Difference(Struct, frozen=True):
    """One difference. `what` names it: `counter on_hand@SH1`, `deadline`, `record`, `row`, … `expected` and `found` are
    plain values; None: absent."""

    side: Side
    what: str
    expected: Any
    found: Any


class Drift(Struct, frozen=True):
    """A key with lasting differences. `since`: the newest batch from which they are known, if any."""

    subject: Subject
    key: str
    differences: tuple[Difference, ...]
    since: int | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides with differences, each once."""
        return tuple(dict.fromkeys(each.side for each in self.differences))


def deadline_of(record: Record | None) -> int | None:
    """The score of an order in `deadlines`, or None."""
    times = (record.expires_at, record.wait_at) if isinstance(record, OrderRecord) else ()
    return min((at for at in times if at is not None), default=None)


def parked_bytes_of(record: Record | None) -> int | None:
    """The score of an order in `waiting`: the bytes of its parked events, or None."""
    events = record.parked if isinstance(record, OrderRecord) else ()
    return sum(event.get("bytes", 0) for event in events) or None


def entries_of(record: Record | None) -> dict[str, int]:
    """The scores of an order in the indexes of holds, queues and unpaid units, and in `approvals`, by their names."""
    if not isinstance(record, OrderRecord):
        return {}
    entries = {f"held:{line.sku}": hold_place(record) for line in record.lines if line.reserved}
    for line in record.lines:
        place = place_in_queue(record, line)
        if place is not None:
            entries[f"queue:{line.sku}\n{record.channel}"] = place
    if record.state == AWAITING_APPROVAL:
        entries["approvals"] = 0
    return entries | {index: units for index, units in record.unpaid_entries.items() if units}


def _is_older(record: Record | None, index: str, found: float | None) -> bool:
    """Whether an older release left the entry so, and no pass has come to the order since: it kept no queues, and put
    VIP orders among those that hold units by their time alone."""
    if not isinstance(record, OrderRecord):
        return False
    if index.startswith("held:"):
        return found == record.placed_at and record.priority == "vip"
    return index.startswith("queue:") and found is None and not record.queued


def sku_entry(index: str, record: Record | None) -> int | None:
    """The score of a SKU in one of SKU_INDEXES, or None."""
    return record.index_entries[index] if isinstance(record, SkuRecord) else None


def announcement_entries(record: Record | None) -> tuple[int | None, int | None, int | None]:
    """The scores of a movement in `expected`, `etas` and `overdue`, or None."""
    return record.announcement_entries if isinstance(record, MovementRecord) else (None, None, None)


def compare_stored(
    kind: Kind, packed: bytes | None, record: Record | None, stored: StoredKey, at_ms: int, limits: LedgerLimits
) -> tuple[Difference, ...]:
    """Compare a key in Redis with the log's `packed` and `record` (None: unknown to the log). `at_ms`: when Redis was
    read; a key that expires within a minute of it may be present or not."""
    until = _NEVER if record is None else kept_until(record, limits)
    if record is not None and until <= at_ms + EXPIRY_MARGIN_MS:
        return ()
    found: list[Difference] = []
    if packed is None:
        found.extend(_unknown_key(kind, stored, at_ms, limits))
    elif stored.type == "none":
        found.append(Difference("redis", "record", _plain(record), None))
    elif stored.type != "string":
        found.append(Difference("redis", "record", _plain(record), f"a {stored.type}"))
    else:
        assert record is not None
        if stored.packed != packed:
            found.extend(_record_differences(kind, record, stored))
        if until >= _NEVER and stored.ends_in_ms >= 0:
            found.append(Difference("redis", "time to live, ms", None, stored.ends_in_ms))
        if until < _NEVER and stored.ends_in_ms < 0:
            found.append(Difference("redis", "time to live, ms", until - at_ms, None))
    found.extend(index_differences(kind, record, stored))
    return tuple(found)


def compare_row(expected: Any, found: Any) -> tuple[Difference, ...]:
    """Compare a row of a table with the log: records or policy levels, or None."""
    if isinstance(found, SkuRecord):
        found = canonical(found)
    if expected == found:
        return ()
    if isinstance(expected, SkuRecord | OrderRecord) and type(expected) is type(found):
        return tuple(_fields("table", expected, found))
    return (Difference("table", "row", _plain(expected), _plain(found)),)


def _unknown_key(kind: Kind, stored: StoredKey, at_ms: int, limits: LedgerLimits) -> Iterator[Difference]:
    """Differences of a key that is unknown to the log; none if its own record is about to expire."""
    if stored.type == "none":
        return
    record = stored.record(kind)
    if record is not None and kept_until(record, limits) <= at_ms + EXPIRY_MARGIN_MS:
        return
    shown = _plain(record) if record is not None else f"a {stored.type} that is no record"
    yield Difference("redis", "record", None, shown)


def _record_differences(kind: Kind, record: Record, stored: StoredKey) -> Iterator[Difference]:
    found = stored.record(kind)
    if found is None:
        yield Difference("redis", "record", _plain(record), f"{len(stored.packed)} bytes that are no record")
    else:
        yield from _fields("redis", record, found)


def index_differences(kind: Kind, record: Record | None, stored: StoredKey) -> Iterator[Difference]:
    """The differences between a record and the index entries of its key."""
    if kind == "sku":
        if (stored.known is None) is not (record is None):
            yield Difference("redis", "entry in skus", record is not None, stored.known is not None)
        for index, entry in zip(SKU_INDEXES, stored.indexed, strict=True):
            if entry != sku_entry(index, record):
                yield Difference("redis", f"entry in {index}", sku_entry(index, record), entry)
    if kind == "movement":
        wanted = announcement_entries(record)
        is_listed = any(each is not None for each in stored.announced)
        if is_listed or (isinstance(record, MovementRecord) and record.is_open):  # else its listing may have ended
            for index, expected, found in zip(ANNOUNCEMENT_INDEXES, wanted, stored.announced, strict=True):
                if expected != found:
                    yield Difference("redis", f"entry in {index}", expected, found)
    if kind == "order":
        if stored.deadline != deadline_of(record):
            yield Difference("redis", "deadline", deadline_of(record), stored.deadline)
        if stored.waiting != parked_bytes_of(record):
            yield Difference("redis", "entry in waiting", parked_bytes_of(record), stored.waiting)
        entries = entries_of(record)
        for index in dict.fromkeys((*entries, *stored.entries)):
            expected, found = entries.get(index), stored.entries.get(index)
            if expected != found and not (expected is not None and _is_older(record, index, found)):
                yield Difference("redis", f"entry in {index}", expected, found)


def fields_differing(side: Side, expected: Record, found: Record) -> tuple[Difference, ...]:
    """The differing fields of two records of a kind; a SKU's counters one by one."""
    return tuple(_fields(side, expected, found))


def _fields(side: Side, expected: Record, found: Record) -> Iterator[Difference]:
    for name in expected.__struct_fields__:
        wanted, there = getattr(expected, name), getattr(found, name)
        if wanted == there:
            continue
        if name == "counters":
            for counter in sorted(wanted.keys() | there.keys()):
                if wanted.get(counter, 0) != there.get(counter, 0):
                    yield Difference(side, f"counter {counter}", wanted.get(counter, 0), there.get(counter, 0))
        else:
            yield Difference(side, name, _plain(wanted), _plain(there))


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
