"""Search of the journal for one SKU: forward and backward, past void records, within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import pytest

from stocktide.streams.journal.record import KIND_BATCH, JournalReader, JournalRecord, Position, encode_record, marker
from stocktide.streams.kafka import backward as windows
from stocktide.tables.history import journal_search
from stocktide.tables.history.journal_search import (
    BackwardSearch,
    JournalCursor,
    ReadBudget,
    oldest_readable,
    search_forward,
    sku_pattern,
)
from stocktide.tables.ledger.records import Effect, Offer, SkuRecord, SkuRow
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.unit.fakes import decision_of

OWNER = "w1"


def payload(batch: int, sku: str) -> bytes:
    row = SkuRow(sku, SkuRecord(batch, batch, {"on_hand@SH1": batch}), (Offer("jd", "in_stock", batch, 0),))
    effect = Effect(sku, batch, ("receive", f"m{batch}", "SH1"), {"on_hand@SH1": 1})
    return msgspec.msgpack.encode(decision_of(batch=batch, at=batch * 1000, skus=(row,), effects=(effect,)))


def record(batch: int, sku: str = "A", term: int = 1, owner: str = OWNER, token: str | None = None) -> JournalRecord:
    previous = f"t{batch - 1}" if batch > 1 else ""
    return JournalRecord(KIND_BATCH, term, owner, batch, token or f"t{batch}", previous, payload(batch, sku))


def journal_of(records: Iterable[JournalRecord], first: int = 0) -> MemoryJournal:
    """A journal whose oldest `first` records have been deleted."""
    return MemoryJournal([encode_record(each) for each in records][first:], first)


def read_all(journal: MemoryJournal) -> Position:
    """The position of a reader at the end."""
    reader = JournalReader()
    for offset, value in enumerate(journal.values):
        reader.feed(offset, msgspec.msgpack.decode(value, type=JournalRecord))
    return reader.position


async def backward(
    journal: MemoryJournal, anchor: JournalCursor, sku: str = "A", budget: ReadBudget | None = None
) -> tuple[list[int], BackwardSearch]:
    """The batches found, and the reader."""
    reader = BackwardSearch(MemoryLog(journal), anchor, sku, budget or ReadBudget(math.inf, math.inf))
    return [match.decision.batch async for match in reader.mentions()], reader


async def test_only_the_batches_that_name_the_sku_are_given() -> None:
    skus = {2: "B", 3: "AB", 5: "A" * 40}
    journal = journal_of([marker(1, OWNER), *(record(batch, skus.get(batch, "A")) for batch in range(1, 7))])
    end = read_all(journal)
    found, reader = await backward(journal, JournalCursor.of(end))
    assert found == [6, 4, 1] and reader.ended and reader.oldest_at == 1000
    assert (await backward(journal, JournalCursor.of(end), "A" * 40))[0] == [5]
    log = MemoryLog(journal)
    assert [each.decision.batch async for each in search_forward(log, JournalReader(), end.offset, "A")] == [1, 4, 6]
    assert [each.decision.batch async for each in search_forward(log, JournalReader(), end.offset, "A" * 40)] == [5]


def test_a_short_name_is_not_found_in_a_longer_one() -> None:
    assert sku_pattern("A") not in msgspec.msgpack.encode(["AB", "BA"])
    assert sku_pattern("A") in msgspec.msgpack.encode(["AB", "A"])


async def test_forward_and_backward_give_the_same_past_void_records_and_copies() -> None:
    journal = journal_of(
        [
            marker(1, OWNER),
            record(1),
            record(2),
            record(3, term=9, token="lost"),  # its term never began
            marker(1, "late"),  # its term has begun already
            marker(2, "w2"),
            record(3),  # the former owner's copy of a batch that the new owner sends too
            record(1, term=2, owner="w2"),
            record(4, term=2, owner="w2", token="forged"),
            record(3, term=2, owner="w2", token="t3"),
            record(4, term=2, owner="w2"),
        ]
    )
    end = read_all(journal)
    assert end.batch == 4
    ahead = [each async for each in search_forward(MemoryLog(journal), JournalReader(), end.offset, "A")]
    assert [each.decision.batch for each in ahead] == [1, 2, 3, 4]
    assert [each.term for each in ahead] == [1, 1, 2, 2]
    assert (await backward(journal, JournalCursor.of(end)))[0] == [4, 3, 2, 1]


async def test_a_reading_whose_budget_is_spent_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_search, "WINDOW_RECORDS_FIRST", 5)
    monkeypatch.setattr(windows, "WINDOW_RECORDS_MAX", 5)
    journal = journal_of([marker(1, OWNER), *(record(batch, "A" if batch % 4 == 1 else "B") for batch in range(1, 30))])
    anchor, found, calls = JournalCursor.of(read_all(journal)), [], 0
    while True:
        some, reader = await backward(journal, anchor, budget=ReadBudget(1, math.inf))
        found += some
        calls += 1
        if reader.ended:
            break
        assert reader.anchor.offset < anchor.offset, "each call gets further"
        anchor = reader.anchor
    assert found == [29, 25, 21, 17, 13, 9, 5, 1]
    assert calls == 6


async def test_a_mention_comes_again_from_its_own_anchor() -> None:
    journal = journal_of([marker(1, OWNER), *(record(batch) for batch in range(1, 6))])
    reader = BackwardSearch(
        MemoryLog(journal), JournalCursor.of(read_all(journal)), "A", ReadBudget(math.inf, math.inf)
    )
    matches = [each async for each in reader.mentions()]
    assert (await backward(journal, matches[2].again))[0] == [3, 2, 1]
    forwards = [each async for each in search_forward(MemoryLog(journal), JournalReader(), 6, "A")]
    assert [each.again for each in forwards] == [each.again for each in reversed(matches)]


async def test_a_window_that_is_too_large_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_search, "WINDOW_BYTES_MAX", 3 * len(payload(1, "A")))
    journal = journal_of([marker(1, OWNER), *(record(batch) for batch in range(1, 12))])
    found, reader = await backward(journal, JournalCursor.of(read_all(journal)))
    assert found == list(range(11, 0, -1)) and reader.ended


async def test_where_the_head_has_aged_out_the_reading_ends_there() -> None:
    records = [marker(1, OWNER), *(record(batch) for batch in range(1, 9))]
    end = read_all(journal_of(records))
    aged = journal_of(records, first=5)
    found, reader = await backward(aged, JournalCursor.of(end))
    assert found == [8, 7, 6, 5] and reader.ended and reader.anchor.batch == 4


async def test_time_that_is_up_ends_a_reading_after_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_search, "WINDOW_RECORDS_FIRST", 2)
    journal = journal_of([marker(1, OWNER), *(record(batch) for batch in range(1, 9))])
    now = iter([0.0, 9.0, 9.0])
    found, reader = await backward(
        journal, JournalCursor.of(read_all(journal)), budget=ReadBudget(1e9, 5.0, lambda: next(now))
    )
    assert found == [8, 7] and not reader.ended


async def test_forward_begins_at_the_oldest_landmark_that_is_kept() -> None:
    records = [marker(1, OWNER), *(record(batch) for batch in range(1, 9))]
    positions = [Position(offset, 1, OWNER, offset - 1, f"t{offset - 1}") for offset in (3, 6, 8)]
    assert await oldest_readable(MemoryLog(journal_of(records)), positions) == Position.beginning()
    assert await oldest_readable(MemoryLog(journal_of(records, first=4)), positions) == positions[1]
    assert await oldest_readable(MemoryLog(journal_of(records, first=4)), positions[:1]) is None
