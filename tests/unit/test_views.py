"""The JSON of the contract, from records."""

from __future__ import annotations

import pytest
from msgspec import structs, to_builtins

from stocktide.streams.contract.times import rfc3339
from stocktide.tables.ledger.records import LineRecord, MovementLine, MovementRecord, Offer, OrderRecord, SkuRecord
from stocktide.tables.views import (
    announcement_view,
    channel_update,
    is_order,
    movement_view,
    order_view,
    published_order,
    stock_view,
)

AT = 1_794_355_200_000
HELD = OrderRecord(
    state="reserved",
    channel="tmall",
    sequence=1,
    placed_at=AT,
    expires_at=AT + 900_000,
    lines=(LineRecord("85123A", 2, "reserved", reserved=2, warehouses={"SH1": 2}),),
)


def test_a_time_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(AT + 7) == "2026-11-11T00:00:00.007Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"


def test_a_time_beyond_the_calendar_is_its_edge() -> None:
    assert rfc3339(10**18) == "9999-12-31T23:59:59.000Z"
    assert rfc3339(-(10**18)) == "0001-01-01T00:00:00.000Z"


def test_an_order_has_the_fields_of_the_contract() -> None:
    view = to_builtins(order_view("tmall-1001", HELD, replayed=False))
    assert list(view) == [*("order_id", "channel", "state", "lines", "placed_at", "expires_at", "sequence", "replayed")]
    assert view["expires_at"] == "2026-11-11T00:15:00.000Z"
    assert view["lines"] == [
        {
            "sku": "85123A",
            "quantity": 2,
            "state": "reserved",
            "reserved": 2,
            "preordered": 0,
            "shipped": 0,
            "returned": 0,
            "warehouses": {"SH1": 2},
            "reason": None,
            "short": 0,
        }
    ]


def test_a_line_shows_what_was_cancelled_of_it() -> None:
    part = structs.replace(HELD, lines=(structs.replace(HELD.lines[0], reserved=1, cancelled=1),))
    assert to_builtins(order_view("o", part, replayed=False))["lines"][0]["cancelled"] == 1


def test_a_line_that_waits_shows_what_it_was_promised() -> None:
    line = LineRecord("A", 1, "preordered", preordered=1, promised_at=AT + 5, first_promised_at=AT, slips=1)
    record = structs.replace(HELD, lines=(line,), choice_due=True)
    view = to_builtins(order_view("o", record, replayed=False))
    shown = {name: view["lines"][0][name] for name in ("promised_at", "first_promised_at", "slips")}
    assert shown == {
        "promised_at": "2026-11-11T00:00:00.005Z",
        "first_promised_at": "2026-11-11T00:00:00.000Z",
        "slips": 1,
    }
    assert view["choice_due"] is True
    filled = structs.replace(record, lines=(structs.replace(line, preordered=0, reserved=1, promised_at=None),))
    view = to_builtins(order_view("o", filled, replayed=False))
    assert "promised_at" not in view["lines"][0] and view["lines"][0]["slips"] == 1
    assert "choice_due" not in view, "nothing waits any more"


def test_a_row_that_is_no_answer_has_no_field_replayed() -> None:
    assert not hasattr(published_order("o", HELD, 1), "replayed")


def test_a_paid_order_expires_never() -> None:
    assert order_view("o", OrderRecord(state="paid", expires_at=AT), replayed=False).expires_at is None


def test_parked_events_are_no_order() -> None:
    assert not is_order(None)
    assert not is_order(OrderRecord(state="parked"))
    assert is_order(HELD)


def test_stock_sums_over_warehouses_pools_channels_and_announcements() -> None:
    record = SkuRecord(
        version=9,
        at=AT,
        warehouses=("SH1", "BJ1", "EMPTY"),
        counters={
            "on_hand@SH1": 100,
            "on_hand@BJ1": 10,
            "committed@SH1": 7,
            "locked@SH1": 5,
            "locked@BJ1": 1,
            "damaged@BJ1": 2,
            "reserved#vip@SH1": 3,
            "reserved#presale@SH1": 4,
            "incoming#po-9": 50,
            "incoming#po@10": 5,
            "preordered@tmall": 6,
            "preordered@jd": 1,
        },
    )
    view = to_builtins(stock_view("85123A", record, (Offer("tmall", "in_stock", 90, 0), Offer("jd", "preorder", 0, 4))))
    totals = {name: view[name] for name in ("on_hand", "committed", "physical", "locked", "reserved", "available")}
    assert totals == {"on_hand": 110, "committed": 7, "physical": 103, "locked": 6, "reserved": 7, "available": 90}
    assert (view["preordered"], view["incoming"], view["damaged"]) == (7, 55, 2)
    assert view["warehouses"]["SH1"] == {
        "on_hand": 100,
        "committed": 7,
        "physical": 93,
        "locked": 5,
        "reserved": 7,
        "available": 81,
        "damaged": 0,
    }
    assert set(view["warehouses"]["EMPTY"].values()) == {0}
    assert view["channels"]["jd"] == {"mode": "preorder", "quantity": 0, "preorder_remaining": 4}
    assert view["as_of"] == "2026-11-11T00:00:00.000Z"


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([("A", 10, 0)], "expected"),
        ([("A", 10, 4)], "partly_received"),
        ([("A", 10, 12), ("B", 1, 0)], "partly_received"),
        ([("A", 10, 10)], "received"),
        ([("A", 10, 12), ("B", 1, 1)], "over_received"),
        ([("A", 10, 10), ("B", 0, 3)], "over_received"),
        ([("A", 0, 0)], "withdrawn"),
        ([("A", 0, 4)], "withdrawn"),
    ],
)
def test_an_announcement_says_what_is_to_come_and_what_came_beyond_it(
    lines: list[tuple[str, int, int]], state: str
) -> None:
    announced = tuple(
        MovementLine(sku, units, "expected", received=came, incoming=max(0, units - came)) for sku, units, came in lines
    )
    hidden = MovementLine("Z", 0, "withdrawn")
    record = MovementRecord("expect", "amended", "ff", AT, AT + 5, (*announced, hidden), eta=AT + 9, overdue=True)
    view = to_builtins(announcement_view("SH1", "po-9", record))
    assert (view["id"], view["warehouse"], view["state"]) == ("po-9", "SH1", state)
    shown = [
        tuple(line[name] for name in ("sku", "quantity", "received", "incoming", "over")) for line in view["lines"]
    ]
    assert shown == [(sku, units, came, max(0, units - came), max(0, came - units)) for sku, units, came in lines]
    assert view["overdue"] is record.is_open
    assert (view["eta"], view["changed_at"]) == ("2026-11-11T00:00:00.009Z", "2026-11-11T00:00:00.005Z")


def test_a_movement_says_what_it_did_to_each_sku() -> None:
    lines = (MovementLine("85123A", 47, "counted", change=-3, on_hand=47, carried=1),)
    record = MovementRecord("count", "counted", "ff", at=AT, applied_at=AT + 5, lines=lines)
    view = to_builtins(movement_view("SH1", "wms-7", record))
    assert (view["type"], view["outcome"], view["detail"]) == ("stock.counted", "counted", None)
    assert view["lines"] == [
        {"sku": "85123A", "quantity": 47, "outcome": "counted", "change": -3, "on_hand": 47, "damaged": 0, "carried": 1}
    ]


def test_a_channel_update_has_the_fields_of_the_contract() -> None:
    assert to_builtins(channel_update("85123A", 3, AT, Offer("tmall", "preorder", 0, 20))) == {
        "channel": "tmall",
        "sku": "85123A",
        "quantity": 0,
        "mode": "preorder",
        "preorder_remaining": 20,
        "version": 3,
        "as_of": "2026-11-11T00:00:00.000Z",
    }
    dated = to_builtins(channel_update("85123A", 3, AT, Offer("tmall", "preorder", 0, 20, available_from=AT)))
    assert dated["available_from"] == "2026-11-11T00:00:00.000Z"
