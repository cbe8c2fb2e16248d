"""Totals by day: each batch and each record counts once, on the day on which it was decided or written."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from stocktide.agents.days.follower import DayFold
from stocktide.agents.derive.days import JournalDays
from stocktide.streams.contract.daily import Spread
from stocktide.streams.contract.documents import encode
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

    def count(self, *decisions: RawDecision, zone: ZoneInfo = UTC, recorded_after: int = 30) -> None:
        days = JournalDays(zone, self.rows.get)
        for decision in decisions:
            days.add(decision, decision.at + recorded_after)
        self.rows |= {key: encode(row) for key, row in days.rows().items()}

    def follow(self, place: str, *records: FakeRecord, zone: ZoneInfo = UTC) -> None:
        fold = DayFold(zone, self.rows.get)
        (fold.add_alerts if place.startswith("alerts") else fold.add_letters)(place, records)
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


def switch(offset: int, waited: int, at: int = NOON) -> FakeRecord:
    alert = {"type": "mode_switched", "channel": "jd", "at": "2024-10-04T12:00:00.000Z"}
    return FakeRecord(offset, json.dumps(alert).encode(), timestamp=at + waited)


def test_a_change_of_mode_counts_once_by_its_offset_and_late_on_the_day_of_its_publication() -> None:
    stored = Stored()
    other = FakeRecord(2, b'{"type":"low_stock","channel":"jd"}', timestamp=NOON)
    broken = FakeRecord(3, b"{", timestamp=NOON)
    stored.follow("alerts/0", switch(0, 100), switch(1, 300), other, broken)
    stored.follow("alerts/0", switch(1, 300), switch(4, DAY_MS))
    stored.follow("alerts/1", switch(0, 20))
    row = stored.row(f"switches/{DAY}/jd")
    assert row["through"] == {"alerts/0": 2, "alerts/1": 1}
    spread = msgspec.convert(row["published_ms"], Spread)
    assert (spread.count, spread.sum_ms, spread.max_ms) == (3, 420, 300)
    assert msgspec.convert(stored.row("switches/2024-10-05/jd")["published_ms"], Spread).count == 1


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
