"""Totals by day: each batch and each record counts once, on the day on which it was decided or written."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from stocktide.agents.days import repeats
from stocktide.agents.days.follower import DayFold
from stocktide.agents.days.repeats import RepeatFilter
from stocktide.agents.derive.days import JournalDays
from stocktide.streams.contract.daily import Spread
from stocktide.streams.contract.documents import encode
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN
from stocktide.tables.dead_letters.reader import CLOSED_STATES
from stocktide.tables.ledger.raw_decision import RawDecision, decode_raw_decision
from stocktide.tables.ledger.records import (
    Alert,
    LineRecord,
    MovementLine,
    MovementRecord,
    MovementRow,
    OrderRecord,
    OrderRow,
    Result,
)
from tests.unit.fakes import FakeRecord, decision_of

DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2
UTC = ZoneInfo("UTC")
DAY = "2024-10-04"


class Stored:
    """The table, as a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.repeats = RepeatFilter()

    def count(self, *decisions: RawDecision, zone: ZoneInfo = UTC, recorded_after: int = 30) -> None:
        days = JournalDays(zone, self.rows.get)
        for decision in decisions:
            days.add(decision, decision.at + recorded_after)
        self.rows |= {key: encode(row) for key, row in days.rows().items()}

    def follow(self, place: str, *records: FakeRecord, zone: ZoneInfo = UTC, floor: int = 0) -> None:
        fold = DayFold(zone, self.rows.get, self.repeats)
        (fold.add_alerts if place.startswith("alerts") else fold.add_letters)(place, records, floor)
        self.rows |= {key: encode(row) for key, row in fold.rows().items()}

    def row(self, key: str) -> Any:
        return json.loads(self.rows[key])


def order(order_id: str, outcome: str = "reserved", at: int = NOON, **line: int) -> OrderRow:
    record = OrderRecord(
        state="rejected" if outcome == "insufficient_stock" else "reserved",
        channel="jd",
        sequence=1,
        placed_at=at,
        outcome=outcome,
        lines=(LineRecord(sku="A", quantity=2, state="x", **line),),
    )
    return OrderRow(order_id, record, True)


def batch(number: int, *orders: OrderRow, at: int = NOON, **parts: Any) -> RawDecision:
    results = [Result(each.record.outcome, order_id=each.order_id) for each in orders]  # type: ignore[arg-type]
    decision = decision_of(*results, *parts.pop("results", ()), batch=number, at=at, orders=orders, **parts)
    return decode_raw_decision(msgspec.msgpack.encode(decision))


def test_a_batch_that_is_derived_again_after_a_restart_counts_nothing() -> None:
    stored = Stored()
    first, second = batch(1, order("o1"), order("o2", "insufficient_stock")), batch(2, order("o3", preordered=2))
    stored.count(first)
    stored.count(first, second)
    stored.count(first, second)
    row = stored.row(f"orders/{DAY}/jd")
    assert (row["through"], row["orders"], row["units"]) == (2, 3, 6)
    assert (row["rejections"], row["preorders"], row["preordered_units"]) == ({"insufficient_stock": 1}, 1, 2)
    spread = msgspec.convert(row["decided_ms"], Spread)
    assert (spread.count, spread.sum_ms, spread.max_ms) == (3, 90, 30)
    assert stored.row(f"inputs/{DAY}") == {"day": DAY, "through": 2, "inputs": 3, "counted": 0, "exact": 0}


def test_an_order_counts_on_the_day_of_its_decision_in_the_zone_of_the_setting() -> None:
    stored = Stored()
    evening = NOON + DAY_MS // 4
    stored.count(batch(1, order("o1", at=evening), at=evening), zone=ZoneInfo("Asia/Shanghai"))
    stored.count(batch(2, order("o2", at=evening + DAY_MS), at=evening + DAY_MS), zone=ZoneInfo("Asia/Shanghai"))
    assert set(stored.rows) == {f"{kind}/{day}" for kind in ("inputs",) for day in ("2024-10-05", "2024-10-06")} | {
        f"orders/{day}/jd" for day in ("2024-10-05", "2024-10-06")
    }


def test_later_events_repeats_and_refusals_are_no_orders() -> None:
    stored = Stored()
    paid = order("o1", at=NOON - 5)
    repeat = Result("reserved", replayed=True, order_id="o1")  # type: ignore[arg-type]
    conflict = Result("conflict", order_id="o1")  # type: ignore[arg-type]
    swept = Result("swept")  # type: ignore[arg-type]
    stored.count(batch(1, paid, results=(repeat, conflict, swept)))
    assert set(stored.rows) == {f"inputs/{DAY}"}
    assert stored.row(f"inputs/{DAY}")["inputs"] == 1


def test_sold_units_that_are_not_there_are_shorts_of_their_channel() -> None:
    stored = Stored()
    alerts = (Alert("sold_short", "A", channel="jd", order_id="o1", quantity=3), Alert("low_stock", "A"))
    stored.count(batch(1, order("o1", short=2), alerts=alerts))
    row = stored.row(f"orders/{DAY}/jd")
    assert (row["shorts"], row["short_units"]) == (1, 3)


def test_counted_lines_without_a_difference_are_exact_and_a_later_void_counts_nothing() -> None:
    stored = Stored()
    lines = tuple(MovementLine(sku, 5, "counted", change=change) for sku, change in (("A", 0), ("B", -1), ("C", 0)))
    late = MovementLine("D", 5, "count_too_old")
    record = MovementRecord("count", "counted_in_part", "f", NOON, NOON, lines=(*lines, late))
    counted = Result("counted_in_part")  # type: ignore[arg-type]
    rows = (MovementRow("SH1", "c", record, True),)
    stored.count(batch(1, movements=rows, results=(counted,)))
    stored.count(batch(2, movements=rows, results=(counted,), at=NOON + 9))
    assert stored.row(f"inputs/{DAY}") == {"day": DAY, "through": 2, "inputs": 2, "counted": 3, "exact": 2}


def switch(offset: int, waited: int, at: int = NOON, id_: str = "") -> FakeRecord:
    alert = {"type": "mode_switched", "id": id_, "channel": "jd", "at": "2024-10-04T12:00:00.000Z"}
    return FakeRecord(offset, json.dumps(alert).encode(), timestamp=at + waited)


def test_a_change_of_mode_counts_once_by_its_offset_and_late_on_the_day_of_its_publication() -> None:
    stored = Stored()
    other = FakeRecord(2, b'{"type":"low_stock","channel":"jd"}', timestamp=NOON)
    broken = FakeRecord(3, b"{", timestamp=NOON)
    stored.follow("alerts/0", switch(0, 100), switch(1, 300), other, broken)
    stored.repeats = RepeatFilter()  # of a successor
    stored.follow("alerts/0", switch(1, 300), switch(4, DAY_MS))
    stored.follow("alerts/1", switch(0, 20))
    row = stored.row(f"switches/{DAY}/jd")
    assert row["through"] == {"alerts/0": 2, "alerts/1": 1}
    spread = msgspec.convert(row["published_ms"], Spread)
    assert (spread.count, spread.sum_ms, spread.max_ms) == (3, 420, 300)
    assert msgspec.convert(stored.row("switches/2024-10-05/jd")["published_ms"], Spread).count == 1


def switches_of(stored: Stored, day: str = DAY) -> list[int]:
    """The number of switches, and the ms of all."""
    spread = msgspec.convert(stored.row(f"switches/{day}/jd")["published_ms"], Spread)
    return [spread.count, spread.sum_ms]


def test_a_change_of_mode_that_a_killed_worker_left_and_its_successor_wrote_again_counts_once() -> None:
    stored = Stored()
    stored.follow("alerts/0", switch(0, 100, id_="a"), switch(1, 300, id_="b"))
    stored.follow("alerts/0", switch(2, 5_000, id_="b"), switch(3, 40, id_="c"), switch(4, DAY_MS, id_="a"))
    assert switches_of(stored) == [3, 440] and "switches/2024-10-05/jd" not in stored.rows
    stored.follow("alerts/1", switch(0, 7, id_="a"))
    assert switches_of(stored) == [4, 447], "another partition has other SKUs"


def test_what_was_counted_before_a_start_makes_its_repeats_known_and_counts_nothing() -> None:
    stored = Stored()
    stored.follow("alerts/0", switch(7, 100, id_="a"), switch(8, 100, id_="b"), floor=9)
    assert stored.rows == {}, "no row that would look like a day without orders"
    stored.follow("alerts/0", switch(9, 100, id_="b"), switch(10, 30, id_="c"), floor=9)
    assert switches_of(stored) == [1, 30]


def test_of_rows_that_are_remembered_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "ROWS_MAX", 2)
    seen = RepeatFilter()
    assert [seen.is_new("alerts/0", each) for each in "abcbca"] == [True] * 3 + [False] * 2 + [True]


def test_a_dead_letter_that_was_written_again_counts_once_and_a_refusal_after_a_retry_counts() -> None:
    stored = Stored()
    row = {"topic": "t-orders", "partition": 0, "offset": 7, "reason": "conflict", "at": "2024-10-04T12:00:00.000Z"}
    rows = [row, row, {**row, "at": "2024-10-04T12:00:01.000Z"}, {**row, "offset": 8}]
    unwritten = {**row, "offset": OFFSET_NOT_WRITTEN, "reason": "row_refused"}
    values = [json.dumps(each).encode() for each in (*rows, unwritten, unwritten)] + [b"{", b"{"]
    stored.follow("dead-letters/0", *(FakeRecord(at, value, timestamp=NOON) for at, value in enumerate(values)))
    reasons = stored.row(f"dead-letters/{DAY}")["reasons"]
    assert reasons == {"conflict": 3, "row_refused": 2, "unreadable": 2}


def test_dead_letters_count_once_by_reason() -> None:
    stored = Stored()
    letters = [FakeRecord(at, json.dumps({"reason": why}).encode(), timestamp=NOON) for at, why in enumerate("aab")]
    stored.follow("dead-letters/0", *letters[:2])
    stored.follow("dead-letters/0", *letters)
    assert stored.row(f"dead-letters/{DAY}")["reasons"] == {"a": 2, "b": 1}


def test_what_share_of_durations_was_within_which_time_is_never_too_good() -> None:
    spread = Spread().with_each([5] * 94 + [150] * 5 + [400_000])
    assert (spread.within(0.5), spread.within(0.95), spread.within(1)) == (10, 200, 400_000)
    assert Spread().within(0.95) is None
    assert Spread().with_each([-7]).within(0.95) == 0
    assert Spread().with_each([120]).within(0.95) == 120


def test_what_was_sent_again_or_dropped_is_no_further_dead_letter() -> None:
    stored = Stored()
    rows = [
        {"reason": "conflict", "of": None},
        *({"reason": why, "of": {"partition": 0, "offset": 0}} for why in CLOSED_STATES),
    ]
    letters = [FakeRecord(at, json.dumps(row).encode(), timestamp=NOON) for at, row in enumerate(rows)]
    stored.follow("dead-letters/0", *letters)
    assert stored.row(f"dead-letters/{DAY}")["reasons"] == {"conflict": 1}
    stored.follow("dead-letters/0", *letters[1:])
    assert stored.row(f"dead-letters/{DAY}")["reasons"] == {"conflict": 1}
