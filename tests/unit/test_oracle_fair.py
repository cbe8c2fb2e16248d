"""Histories in which every promise is kept, with all that is unusual but allowed: no checker may report a violation."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import structs

from stocktide.loadtest.oracle.dispatcher import OPERATOR_KINDS
from stocktide.loadtest.oracle.history import (
    HistoryRecord,
    MovementPublished,
    Response,
    StockPublished,
    Subscribed,
    Synced,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.streams.contract.times import rfc3339
from tests.ledger.ledgers import PARK_MS
from tests.ledger.strategies import TimedBatch, runs
from tests.unit.oracle_shop import SimulatedShop


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[SimulatedShop]:
    """A shop with units of A at SH1 and one subscriber. After the test, its whole history has to be without violations;
    so a test that only acts tests something."""
    shop = SimulatedShop()
    shop.subscribe("tmall")
    shop.move("received", "opening", getattr(request, "param", 10))
    yield shop
    assert_no_violation(shop)


def with_units(units: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shop", [units], indirect=True)


def assert_no_violation(shop: SimulatedShop) -> None:
    records = shop.quiesce()
    verdict = judge(records, park_ms=PARK_MS)
    assert not verdict.broken, "\n".join(verdict.lines())
    live_judge = LiveJudge()
    assert not [violation for record in records for violation in live_judge.feed(record)]


def lines(units: int, warehouse: str = "SH1", **more: str) -> list[dict[str, object]]:
    return [{"sku": "A", "quantity": units, "warehouse": warehouse, **more}]


def test_an_order_from_its_placing_to_its_return(shop: SimulatedShop) -> None:
    shop.buy("o1", 3)
    shop.event("shipped", "o1", "kafka", lines=lines(3))
    shop.event("returned", "o1", "kafka", lines=lines(1, condition="damaged"))
    shop.event("returned", "o1", "ndjson", id="again", lines=lines(1))
    verdict = judge(deepcopy(shop).quiesce())
    assert verdict.ok, "\n".join(verdict.lines())


@pytest.mark.parametrize("units_shipped", [0, 2, 3])
def test_a_return_that_comes_before_its_shipment(shop: SimulatedShop, units_shipped: int) -> None:
    shop.buy("o1", 3)
    shop.event("returned", "o1", "kafka", lines=lines(3))
    if units_shipped:
        shop.event("shipped", "o1", "kafka", lines=lines(units_shipped))
    assert shop.state.skus["A"].count("on_hand@SH1") == (10 if units_shipped == 3 else 10 - units_shipped)


def test_a_movement_whose_row_comes_before_its_last_lines_are_applied() -> None:
    shop = SimulatedShop()
    shop.move("received", "opening", 10)
    shop.buy("o1", 3)
    records: list[HistoryRecord] = []
    for record in shop.quiesce():
        if isinstance(record, MovementPublished):
            unfinished = structs.replace(record.movement, outcome="applying", lines=())
            records.append(structs.replace(record, movement=unfinished, offset=2 * record.offset))
            record = structs.replace(record, offset=2 * record.offset + 1)
        records.append(record)
    verdict = judge(records)
    assert verdict.ok, "\n".join(verdict.lines())


def test_a_return_whose_wait_ended_in_vain(shop: SimulatedShop) -> None:
    shop.buy("o1", 3)
    shop.event("returned", "o1", "kafka", lines=lines(3))
    shop.wait(PARK_MS)


def test_a_return_that_was_rejected_comes_again_and_counts_while_another_waits(shop: SimulatedShop) -> None:
    shop.buy("o1", 3)
    shop.event("returned", "o1", "kafka", lines=lines(1, "GZ1"))
    shop.wait(PARK_MS)
    rejected = len(shop.records)
    shop.tick()
    again = len(shop.records)
    shop.event("returned", "o1", "kafka", lines=lines(1, "GZ1"))
    # It was taken before the first one was rejected.
    shop.records[rejected:rejected] = [shop.records.pop(again), shop.records.pop(again)]
    shop.event("shipped", "o1", "kafka", lines=lines(1))
    shop.event("returned", "o1", "kafka", id="waits", lines=lines(1))
    assert shop.state.skus["A"].count("on_hand@GZ1") == 1


def test_a_repeat_is_told_the_same(shop: SimulatedShop) -> None:
    for _ in range(3):
        shop.place("o1", units=3)
        shop.event("paid", "o1")
        shop.event("paid", "o1", id="another")
        shop.move("received", "r1", 5)


def test_a_request_without_an_answer_happened_after_all(shop: SimulatedShop) -> None:
    shop.send("order.placed", silent=True, order_id="o1", channel="tmall", lines=[{"sku": "A", "quantity": 2}])
    assert shop.place("o1", units=2).status == 200
    shop.send("order.paid", silent=True, order_id="o1", id="o1-paid")
    shop.event("shipped", "o1", "kafka", silent=True, lines=lines(1))


def test_a_request_without_an_answer_never_happened(shop: SimulatedShop) -> None:
    shop.send(
        "order.placed", silent=True, lost=True, order_id="o1", channel="tmall", lines=[{"sku": "A", "quantity": 2}]
    )
    shop.buy("o2", 2)
    shop.event("shipped", "o2", "kafka", silent=True, lost=True, lines=lines(2))
    number = shop.ask("order.placed", order_id="o3", channel="tmall", lines=[{"sku": "A", "quantity": 2}])
    shop.add(Response(shop.now, number, 503, "unsettled"))


def test_a_payment_races_with_the_end_of_its_hold(shop: SimulatedShop) -> None:
    for order_id, wait in (("o1", 4_999), ("o2", 5_000)):
        shop.place(order_id, hold_seconds=5)
        shop.wait(wait)
        shop.event("paid", order_id)
    shop.place("o3", hold_seconds=5)
    shop.wait(7_000)
    shop.event("paid", "o3", "kafka")


def test_a_hold_is_extended_and_ends_later(shop: SimulatedShop) -> None:
    shop.place("o1", hold_seconds=5)
    shop.event("extended", "o1", hold_seconds=60)
    shop.wait(30_000)
    assert shop.place("o2", units=9).status == 201


@with_units(2)
def test_refusals_conflicts_and_the_last_unit(shop: SimulatedShop) -> None:
    assert shop.place("o1", units=3).status == 409
    shop.move("received", "more", 10)
    assert shop.place("o1", units=3).replayed
    assert shop.place("o1", units=4).code == "conflict"
    assert shop.place("o2", units=12).status == 201
    assert shop.place("o3").status == 409
    assert shop.place("o4", sku="never").status == 409
    shop.place("o2", units=1, door="kafka")
    shop.move("received", "more", 11)


@with_units(2)
def test_an_order_takes_some_of_its_lines(shop: SimulatedShop) -> None:
    wanted = [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]
    shop.send("order.placed", order_id="o1", channel="tmall", accept="partial", lines=wanted)
    shop.event("cancelled", "o1")


@with_units(2)
def test_preorders_are_promised_paid_and_cancelled(shop: SimulatedShop) -> None:
    shop.policy("tmall", None, {"safety_threshold": 4, "below_threshold": "preorder", "preorder_cap": 5})
    for order_id in ("o1", "o2", "o3"):
        shop.place(order_id, units=2)
    shop.event("paid", "o1")
    shop.event("cancelled", "o2")
    shop.event("shipped", "o1", "kafka", lines=lines(2))


@with_units(2)
def test_waiting_orders_of_several_channels_are_filled_in_their_order(shop: SimulatedShop) -> None:
    policy = {"safety_threshold": 2, "below_threshold": "preorder", "preorder_cap": 50}
    for channel, where in (("tmall", {}), ("jd", {"warehouses": ["BJ1"]}), ("own", {"warehouses": ["SH1"]})):
        shop.policy(channel, None, policy | where)
    for number, channel in enumerate(("jd", "tmall", "own", "tmall", "jd")):
        shop.place(f"o{number}", channel=channel, units=3, hold_seconds=5 if number == 1 else 900)
        shop.wait(1)
    shop.place("vip", units=2, priority="vip")
    shop.event("paid", "o3")
    shop.move("received", "r1", 4)
    shop.wait(6_000)
    shop.move("received", "r2", 1)
    shop.tick()
    shop.event("cancelled", "o2")
    shop.event("changed", "o3", remove=[{"sku": "A", "quantity": 1}], add=[{"sku": "A", "quantity": 2}])
    shop.move("received", "r3", 9, warehouse="BJ1")
    assert shop.state.skus["A"].preordered() == 0


@with_units(2)
def test_an_operator_passes_over_the_queue(shop: SimulatedShop) -> None:
    shop.policy("tmall", None, {"safety_threshold": 2, "below_threshold": "preorder", "preorder_cap": 50})
    for number in range(4):
        shop.place(f"o{number}", units=3)
    shop.place("sold", units=4, accept="sold", allow_preorder=False)
    for order_id in ("o0", "sold"):
        shop.send("order.held_back", order_id=order_id, id="h", reason="asked for")
    shop.move("received", "r1", 5)
    assert shop.send("order.assigned", order_id="o3", id="a", reason="asked for").status == 409
    shop.move("received", "r2", 4)
    lines = [{"sku": "A", "quantity": 2}]
    assert shop.send("order.assigned", order_id="o3", id="b", reason="asked for", lines=lines).status == 200
    assert shop.send("order.assigned", order_id="o3", reason="asked for", lines=lines).status == 409
    shop.send("order.held_back", order_id="o0", id="h2", reason="asked for", held=False)
    shop.move("received", "r3", 1)
    assert shop.state.skus["A"].short() == 2 and shop.state.orders["o3"].lines[0].reserved == 2


@with_units(2)
def test_orders_that_can_be_filled_whole_go_first(shop: SimulatedShop) -> None:
    shop.policy("tmall", None, {"safety_threshold": 2, "below_threshold": "preorder", "preorder_cap": 50})
    shop.policy("*", "A", {"fill": "complete_first"})
    for number, units in enumerate((9, 2, 1)):
        shop.place(f"o{number}", units=units, priority="vip" if number == 0 else "standard")
    shop.move("received", "r1", 2)
    shop.move("received", "r2", 1)
    assert shop.state.orders["o0"].passed_over == {"A": 2}


@with_units(2)
def test_units_that_are_sold_beyond_the_shelf_come_first_where_they_can_be_had(shop: SimulatedShop) -> None:
    shop.policy("far", None, {"warehouses": ["GZ1"]})
    shop.policy("one", None, {"split": False})
    shop.place("sold", units=4, channel="far", accept="sold", paid=True)
    shop.move("received", "r1", 7)
    shop.move("received", "r2", 1, warehouse="BJ1")
    shop.place("split", units=7, channel="one", accept="sold")
    shop.place("rest", units=9, accept="sold", hold_seconds=5)
    shop.place("early", units=2, channel="early", accept="sold")
    shop.event("paid", "later", "kafka")
    shop.place("later", units=3, accept="sold")
    shop.move("received", "r3", 2)
    shop.wait(6_000)
    shop.tick()
    shop.move("received", "r4", 30, warehouse="GZ1")
    assert shop.state.skus["A"].short() == 0


@with_units(3)
def test_an_order_takes_the_place_of_an_earlier_hold(shop: SimulatedShop) -> None:
    shop.place("o1", units=3)
    assert shop.place("o2", units=2, supersedes="o1").status == 201
    assert shop.place("o3", units=9, supersedes="o2").status == 409
    shop.event("paid", "o2")
    shop.place("o4", units=1, supersedes="o2")


def test_a_late_count_explains_a_shortfall(shop: SimulatedShop) -> None:
    shop.buy("o1", 8)
    shop.move("counted", "c1", 5)
    shop.move("adjusted", "a1", -2, reason="damages")
    shop.event("cancelled", "o1")


def test_what_a_count_held_already_is_not_counted_again(shop: SimulatedShop) -> None:
    shop.buy("o1", 4)
    early = "2026-11-18T11:06:00Z"
    shop.wait(60_000)
    shop.move("counted", "c1", 6)
    shop.event("shipped", "o1", "kafka", occurred_at=early, lines=lines(4))
    shop.move("received", "r1", 3, occurred_at=early)
    shop.move("transferred", "t1", 2, to_warehouse="BJ1", occurred_at=early)
    shop.wait(60_000)
    shop.move("counted", "c2", 1, occurred_at=early)


@pytest.mark.parametrize("count_first", [True, False])
def test_what_left_before_a_count_that_found_it_all_is_promised_again(shop: SimulatedShop, count_first: bool) -> None:
    shop.buy("o1", 8)
    shop.wait(60_000)
    left = {"occurred_at": "2026-11-18T11:06:00Z", "lines": lines(8)}
    if count_first:
        shop.move("counted", "c1", 10)
        shop.event("shipped", "o1", "kafka", **left)
    else:
        shop.event("shipped", "o1", "kafka", **left)
        shop.move("counted", "c1", 10)
    shop.place("o2", units=9)


def test_a_count_is_carried_forward_over_what_moved_since(shop: SimulatedShop) -> None:
    then = "2026-11-18T11:06:39Z"  # a moment before the run
    shop.buy("o1", 4)
    shop.event("shipped", "o1", "kafka", lines=lines(4))
    shop.move("transferred", "t1", 3, to_warehouse="BJ1")
    shop.move("counted", "c1", 9, occurred_at=then)


def test_a_cancelled_order_was_shipped_in_part_or_afterwards(shop: SimulatedShop) -> None:
    shop.place("o1", units=4)
    shop.event("shipped", "o1", "kafka", lines=lines(1))
    shop.event("cancelled", "o1")
    shop.place("o2", units=2)
    shop.event("cancelled", "o2")
    shop.event("shipped", "o2", "kafka", lines=lines(2))
    shop.place("o3", units=8)
    shop.event("shipped", "o3", "kafka", lines=lines(9, "BJ1"))


def test_units_of_lines_are_cancelled(shop: SimulatedShop) -> None:
    one, two = [[{"sku": "A", "quantity": units}] for units in (1, 2)]
    shop.place("o1", units=4)
    assert shop.event("cancelled", "o1", lines=one).status == 200
    shop.event("paid", "o1")
    shop.event("shipped", "o1", "kafka", lines=lines(1))
    shop.event("cancelled", "o1", "kafka", id="rest", lines=two)
    assert shop.event("cancelled", "o1", id="more", lines=one).code == "more_than_open"
    shop.event("cancelled", "o1", "kafka", id="too-much", lines=two)
    shop.place("o2", units=2)
    shop.event("cancelled", "o2", lines=two)


def test_a_late_payment_takes_its_order_again(shop: SimulatedShop) -> None:
    for order_id in ("o1", "o2"):
        shop.place(order_id, units=4, hold_seconds=5)
    shop.wait(5_000)
    shop.tick()
    shop.event("paid", "o1", if_expired="take_again")
    assert shop.place("o3", units=6).status == 201
    assert shop.event("paid", "o2", if_expired="take_again").code == "already_final"
    shop.event("paid", "o2", "kafka", id="again", if_expired="take_again")
    shop.event("shipped", "o1", "kafka", lines=lines(4))


def test_an_order_that_was_taken_again_elsewhere_leaves_from_where_it_was_first(shop: SimulatedShop) -> None:
    shop.move("received", "r1", 5, warehouse="BJ1")
    shop.place("o1", units=2, hold_seconds=5)
    sent, at = len(shop.records), shop.now
    shop.publication_lags = True
    shop.wait(5_000)
    shop.tick()
    shop.buy("o2", 10)
    shop.event("paid", "o1", "kafka", if_expired="take_again")
    shop.publish(held_back=True)  # no row shows that it was expired
    begin = len(shop.records)
    shop.event("shipped", "o1", "kafka", lines=lines(2))
    # It was requested while the first hold existed, and decided later.
    shop.records[sent:sent] = [structs.replace(record, at=at) for record in shop.records[begin:]]
    del shop.records[begin + 2 :]
    shop.publish(held_back=True)
    sku = shop.state.skus["A"]
    assert (sku.count("on_hand@SH1"), sku.count("committed@SH1"), sku.count("committed@BJ1")) == (8, 10, 0)


def test_an_order_is_paid_with_its_placing(shop: SimulatedShop) -> None:
    assert shop.place("o1", units=4, paid=True).order.state == "paid"
    assert shop.place("o1", units=4).code == "conflict"
    shop.event("paid", "o1", "kafka")
    shop.event("cancelled", "o1")
    shop.place("o2", units=4, door="kafka", paid=True)
    shop.event("shipped", "o2", "kafka", lines=lines(4))


def void(shop: SimulatedShop, movement_id: str) -> None:
    event = {"id": f"void-{movement_id}", "warehouse": "SH1", "movement_id": movement_id}
    shop.send("stock.voided", "kafka", **event, occurred_at=rfc3339(shop.now))


def test_orders_are_changed(shop: SimulatedShop) -> None:
    one, nine = [[{"sku": "A", "quantity": units}] for units in (1, 9)]
    shop.move("received", "b", 5, sku="B")
    shop.place("o1", units=4)
    assert shop.event("changed", "o1", remove=one, add=[{"sku": "B", "quantity": 2}]).status == 200
    assert shop.event("changed", "o1", id="too-much", add=nine).code == "insufficient_stock"
    shop.event("changed", "o1", "kafka", id="too-much", remove=nine)
    assert shop.place("o1", units=4).replayed
    shop.place("o1", units=4, door="kafka")
    shop.event("paid", "o1")
    shop.event("changed", "o1", "kafka", id="more", add=one)
    shop.event("shipped", "o1", "kafka", lines=lines(4))
    shop.event("cancelled", "o1")
    assert shop.event("changed", "o1", id="late", add=one).code == "already_final"


def test_a_change_is_repeated_after_the_end_of_its_hold(shop: SimulatedShop) -> None:
    shop.place("o1", units=2, hold_seconds=5)
    more = [{"sku": "A", "quantity": 1}]
    assert shop.event("changed", "o1", id="c", add=more).status == 200
    shop.wait(6_000)
    again = shop.event("changed", "o1", id="c", add=more)
    assert (again.status, again.replayed) == (200, True)


def test_many_receipts_fill_a_sold_order(shop: SimulatedShop) -> None:
    shop.place("o1", units=20, accept="sold", allow_preorder=False)
    for number in range(12):
        shop.move("received", f"r{number}", 1)


def take_preorders_only(shop: SimulatedShop) -> None:
    """Each received unit lies above the threshold and below the one at which the shelf opens again."""
    policy = {"below_threshold": "preorder", "safety_threshold": 10, "resume_threshold": 30, "preorder_cap": 30}
    shop.policy("tmall", policy=policy)


def test_an_order_is_filled_by_the_unit_before_a_row_shows_it(shop: SimulatedShop) -> None:
    take_preorders_only(shop)
    shop.publication_lags = True
    shop.place("o1", units=5, door="kafka")
    shop.event("paid", "o1", "kafka")
    for number in range(5):
        shop.move("received", f"r{number}", 1)
    shop.publish(held_back=True)
    assert shop.state.orders["o1"].sequence == 7


def test_an_order_that_is_taken_again_is_filled_again(shop: SimulatedShop) -> None:
    take_preorders_only(shop)
    shop.place("o1", units=5, hold_seconds=5)
    for number in range(4):
        shop.move("received", f"r{number}", 1)
    shop.wait(6_000)
    shop.tick()
    shop.move("adjusted", "lost", -4, reason="lost")
    assert shop.event("paid", "o1", if_expired="take_again").status == 200
    for number in range(5):
        shop.move("received", f"s{number}", 1)
    assert shop.state.orders["o1"].sequence == 12


def test_announcements_move_a_promised_date_more_often_than_the_order_is_changed(shop: SimulatedShop) -> None:
    take_preorders_only(shop)
    shop.place("o1", units=1, door="kafka")
    for day in range(1, 9):
        shop.wait(1_000)
        shop.move("expected", "po", 5, eta=f"2099-01-0{day}T00:00:00.000Z")
    assert shop.state.orders["o1"].sequence == 9


def test_held_units_move_to_another_warehouse(shop: SimulatedShop) -> None:
    shop.place("o1", units=3)
    shop.policy("tmall", policy={"reroute": True})
    shop.buy("o2", 4)
    shop.move("received", "r1", 9, warehouse="BJ1")
    for number in range(10):
        shop.move("adjusted", f"a{number}", -1, reason="lost")
    shop.place("o3", units=2)
    shop.event("shipped", "o2", "kafka", lines=lines(4))


def test_movements_are_voided(shop: SimulatedShop) -> None:
    shop.move("received", "r", 5)
    shop.place("o1", units=13)
    void(shop, "r")
    shop.move("transferred", "t", 4, to_warehouse="BJ1")
    void(shop, "t")
    shop.move("adjusted", "a", -3, reason="damages")
    void(shop, "a")
    void(shop, "a")
    void(shop, "never")
    shop.move("transferred", "t2", 1, to_warehouse="BJ1")
    shop.wait(60_000)
    shop.move("counted", "c", 0, warehouse="BJ1")
    void(shop, "t2")


def test_what_a_void_brings_back_is_promised(shop: SimulatedShop) -> None:
    shop.move("adjusted", "a", -6, reason="lost")
    shop.publication_lags = True
    void(shop, "a")
    assert shop.place("o1", units=10).status == 201


def test_events_come_before_their_order_or_without_one(shop: SimulatedShop) -> None:
    shop.event("paid", "o1", "kafka")
    shop.event("paid", "o2", "ndjson")
    shop.place("o1", units=2)
    shop.event("paid", "o3", "kafka")
    assert shop.event("paid", "o4").status == 404
    shop.wait(61_000)
    shop.tick()


def test_what_is_no_event_lies_in_the_dead_letters(shop: SimulatedShop) -> None:
    shop.send_malformed()
    shop.move("adjusted", "a1", 3, sku="never", reason="found")
    shop.event("returned", "o1", "kafka", lines=lines(1))
    shop.place("o1")


@with_units(4)
def test_publication_lags_and_conflates(shop: SimulatedShop) -> None:
    shop.publication_lags = True
    for number in range(6):
        shop.place(f"o{number}", hold_seconds=2)
        shop.event("paid", f"o{number}", "kafka") if number % 2 else shop.event("cancelled", f"o{number}")
        shop.move("received", f"r{number}", 1)
    shop.wait(3_000)


def test_a_shipment_waits_until_its_hold_is_over_and_the_row_of_the_stock_comes_before_that_of_the_order(
    shop: SimulatedShop,
) -> None:
    shop.place("late", units=2, hold_seconds=2)
    sent, at = len(shop.records), shop.now
    shop.publication_lags = True
    shop.wait(3_000)
    shop.tick()
    assert shop.place("next", units=10).status == 201
    begin = len(shop.records)
    shop.event("shipped", "late", "kafka", lines=lines(2))
    # It was requested while the hold existed, and decided later.
    shop.records[sent:sent] = [structs.replace(record, at=at) for record in shop.records[begin:]]
    del shop.records[begin + 2 :]
    begin = len(shop.records)
    shop.publish(held_back=True)
    shop.records[begin:] = sorted(shop.records[begin:], key=lambda record: not isinstance(record, StockPublished))
    assert shop.state.skus["A"].count("on_hand@SH1") == 8, "what was promised to another has left"


@with_units(5)
def test_rows_come_again_and_older_ones_behind_newer_ones(shop: SimulatedShop) -> None:
    shop.place("o1")
    begin = len(shop.records)
    shop.event("paid", "o1")
    shop.place("o2")
    again = [record for record in shop.records[begin:] if hasattr(record, "offset") and hasattr(record, "partition")]
    shop.records += [record for record in again if not isinstance(record, Response)]


@with_units(5)
def test_a_subscriber_comes_back_and_gets_what_it_missed(shop: SimulatedShop) -> None:
    shop.place("o1")
    shop.wait(40_000)
    shop.add(Unsubscribed(shop.now, "tmall-1", "the line broke"))
    begin = len(shop.records)
    shop.place("o2")
    missed = [record for record in shop.records[begin:] if isinstance(record, UpdateReceived)]
    shop.records[begin:] = [record for record in shop.records[begin:] if not isinstance(record, UpdateReceived)]
    shop.wait(40_000)
    shop.add(Subscribed(shop.now, "tmall-1", "tmall", "3-4"))
    shop.records += [structs.replace(record, at=shop.now) for record in missed]
    shop.add(Synced(shop.now, "tmall-1"))


@with_units(5)
def test_policies_are_replaced_and_removed(shop: SimulatedShop) -> None:
    shop.policy("tmall", None, {"buffer": 2})
    shop.policy("tmall", None, {"buffer": 1, "share": 0.5})
    shop.policy("jd", None, {"safety_threshold": 9, "below_threshold": "suspend"})
    shop.place("o1", channel="jd")
    shop.policy("tmall", None, None)
    shop.policy("tmall", None, None)


def test_a_forced_order_that_is_approved_and_one_that_is_not(shop: SimulatedShop) -> None:
    forced = {"force": True, "reason": "why", "actor": "anna"}
    for order_id in ("o1", "o2", "o3"):
        assert shop.place(order_id, units=2, **forced).status == 202
    assert shop.place("o1", units=2, **forced).status == 200
    shop.event("paid", "o1", "kafka")
    for order_id, actor, status in (("o1", "anna", 403), ("o1", "ben", 200), ("o1", "ben", 200), ("o1", "carl", 409)):
        assert shop.send("order.approved", order_id=order_id, actor=actor).status == status
    assert shop.send("order.unapproved", order_id="o2", actor="ben").status == 200
    assert shop.send("order.approved", order_id="none", actor="ben").status == 404
    assert shop.state.orders["o1"].state == "paid" and shop.state.orders["o3"].state == "awaiting_approval"


def run_batches(batches: list[TimedBatch]) -> SimulatedShop:
    """A generated run of the ledger's tests, as events by various transports."""
    shop = SimulatedShop()
    for channel in ("tmall", "jd", "main"):
        shop.subscribe(channel)
    for passing, drafts in batches:
        shop.wait(passing)
        shop.publication_lags = bool(passing)
        for draft in drafts:
            _run_command(shop, draft.kind.__name__, draft.fields, draft.age_s)
    return shop


def _run_command(shop: SimulatedShop, kind: str, fields: dict[str, object], age_s: int) -> None:
    if kind in ("SetPolicy", "DeletePolicy"):
        shop.policy(str(fields["channel"]), fields["sku"], fields.get("policy"))  # type: ignore[arg-type]
    elif kind == "Tick":
        shop.tick()
    elif kind != "KnowChannel" and not fields.get("parts"):  # a count in parts is of more than one event
        event_kind, event = shop.event_of(kind, fields, age_s)
        by_http = fields.get("origin") is None and event_kind in _BY_HTTP
        shop.send(event_kind, "http" if by_http else "kafka", **event)


_BY_HTTP = (*OPERATOR_KINDS, "order.placed", "order.paid", "order.cancelled", "order.changed", "order.extended")
_BY_HTTP += ("order.approved", "order.unapproved")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs())
def test_whatever_a_correct_shop_does_is_found_fair(batches: list[TimedBatch]) -> None:
    assert_no_violation(run_batches(batches))


@pytest.mark.soak
@settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs())
def test_whatever_a_correct_shop_does_for_long_is_found_fair(batches: list[TimedBatch]) -> None:
    assert_no_violation(run_batches(batches))
