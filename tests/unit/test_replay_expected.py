"""The stock model of a replay: rows of `reservations` and `adjustments` in, the expected state of every SKU out."""

from __future__ import annotations

import pytest

from stocktide.loadtest.client.contract import (
    DeadLetterView,
    LineView,
    MovedLineView,
    MovementView,
    OrderView,
    StockView,
)
from stocktide.loadtest.replay.outcomes import OutcomeTracker
from stocktide.loadtest.replay.stock_model import ExpectedSku, StockModel

SKU = "85123A"


def order(state: str, sequence: int, **amounts: int) -> OrderView:
    line = LineView(SKU, 5, warehouses={"UK1": amounts.get("reserved", 0)}, **amounts)
    return OrderView("retail-1", "jd", state, (line,), sequence, outcome="reserved")


def movement(change: int, id: str = "m-1", type: str = "stock.received", batch: int = 1) -> MovementView:
    return MovementView("UK1", id, type, "received", lines=(MovedLineView(SKU, change, change=change),), batch=batch)


def stock(on_hand: int, committed: int = 0, locked: int = 0, preordered: int = 0) -> StockView:
    available = on_hand - committed - locked
    return StockView(SKU, 1, on_hand, committed, locked, available=available, preordered=preordered)


def folded(*rows: OrderView | MovementView) -> StockModel:
    """The model after these rows."""
    model = StockModel()
    for row in rows:
        model.take_order(row) if isinstance(row, OrderView) else model.take_movement(row)
    return model


def test_a_hold_is_locked_until_it_is_paid_and_committed_until_it_is_shipped() -> None:
    oracle = folded(movement(10))
    for row, expected in (
        (order("reserved", 1, reserved=5), ExpectedSku(on_hand=10, locked=5)),
        (order("paid", 2, reserved=5), ExpectedSku(on_hand=10, committed=5)),
        (order("paid", 3, reserved=3, shipped=2), ExpectedSku(on_hand=8, committed=3)),
        (order("shipped", 4, shipped=5), ExpectedSku(on_hand=5)),
        (order("shipped", 5, shipped=5, returned=1), ExpectedSku(on_hand=6, returned=1)),
    ):
        assert oracle.take_order(row)
        assert oracle.expected(SKU) == expected


@pytest.mark.parametrize("state", ["cancelled", "expired", "rejected"])
def test_an_order_that_ended_otherwise_holds_nothing(state: str) -> None:
    oracle = folded(order("reserved", 1, reserved=5), order(state, 2))
    assert oracle.expected(SKU) == ExpectedSku()


def test_an_older_row_after_a_newer_one_changes_nothing() -> None:
    oracle = folded(order("paid", 2, reserved=5))
    assert not oracle.take_order(order("reserved", 1, reserved=5))
    assert not oracle.take_order(order("paid", 2, reserved=5))
    assert (oracle.expected(SKU), oracle.changes) == (ExpectedSku(committed=5), 1)


def test_a_movement_that_is_told_again_counts_once() -> None:
    oracle = folded(*(movement(10, batch=batch) for batch in (1, 1, 7)))
    assert (oracle.expected(SKU).on_hand, oracle.changes) == (10, 1)


def test_preorders_are_summed_over_channels_and_states() -> None:
    other = OrderView("retail-2", "jd", "paid", (LineView(SKU, 3, preordered=3),), 2)
    oracle = folded(order("reserved", 1, preordered=2), other)
    assert oracle.expected(SKU) == ExpectedSku(preordered=5)


def test_a_transfer_leaves_the_sum_as_it_is() -> None:
    oracle = folded(movement(10), movement(-4, id="t-1", type="stock.transferred"))
    assert oracle.expected(SKU).on_hand == 10


def test_equal_numbers_are_no_difference() -> None:
    oracle = folded(movement(10), order("paid", 1, reserved=4, preordered=1))
    assert not list(oracle.differences(SKU, stock(10, committed=4, preordered=1)))


def test_each_number_that_differs_is_named() -> None:
    found = list(folded(movement(10)).differences(SKU, stock(9, committed=1, locked=2, preordered=3)))
    assert [(each.field, each.expected, each.actual) for each in found] == [
        ("on_hand", 10, 9),
        ("committed", 0, 1),
        ("locked", 0, 2),
        ("preordered", 0, 3),
    ]


def test_a_sku_that_the_api_does_not_know_is_a_difference_if_it_should_hold_anything() -> None:
    assert not list(folded().differences(SKU, None))
    assert [each.field for each in folded(movement(10)).differences(SKU, None)] == ["known"]


def test_available_below_zero_is_a_difference_unless_a_write_off_made_it() -> None:
    paid = order("paid", 1, reserved=5)
    sold = folded(paid, movement(4))
    written_off = folded(paid, movement(5), movement(-1, id="w-1", type="stock.adjusted"))
    assert [each.field for each in sold.differences(SKU, stock(4, committed=5))] == ["available"]
    assert not list(written_off.differences(SKU, stock(4, committed=5)))


def test_a_returned_unit_may_have_gone_to_the_damaged_ones() -> None:
    oracle = folded(movement(10), order("shipped", 3, shipped=5, returned=2))
    for on_hand in (5, 6, 7):
        assert not list(oracle.differences(SKU, stock(on_hand)))
    assert [each.field for each in oracle.differences(SKU, stock(8))] == ["on_hand"]


PLACED = {"order_id": "retail-1", "occurred_at": "2010-12-01T08:26:00Z"}


@pytest.fixture
def answers() -> OutcomeTracker:
    """The outcomes of a run that has sent one order."""
    tracker = OutcomeTracker(StockModel(), ships=False)
    tracker.begin()
    tracker.sent_order(PLACED)
    return tracker


def test_an_order_waits_until_it_is_paid(answers: OutcomeTracker) -> None:
    answers.on_order(order("reserved", 1, reserved=5))
    assert answers.missing() == ["retail-1"]
    answers.on_order(order("paid", 2, reserved=5))
    assert (answers.missing(), answers.answered, dict(answers.outcomes())) == ([], 1, {"paid": 1})


def test_an_order_that_ended_in_an_earlier_run_is_answered_when_it_is_sent() -> None:
    answers = OutcomeTracker(StockModel(), ships=False)
    answers.on_order(order("paid", 2, reserved=5))
    answers.begin()
    answers.sent_order(PLACED)
    assert (answers.missing(), answers.answered, answers.model.changes) == ([], 1, 0)


def test_a_refused_order_is_answered_with_its_reason(answers: OutcomeTracker) -> None:
    line = LineView(SKU, 5, reason="insufficient_stock")
    answers.on_order(OrderView("retail-1", "jd", "rejected", (line,), 1))
    assert dict(answers.outcomes()) == {"insufficient_stock": 1}


def test_a_paid_order_is_shipped_once_from_where_it_is_held() -> None:
    answers = OutcomeTracker(StockModel(), ships=True)
    answers.begin()
    answers.sent_order(PLACED)
    answers.on_order(order("paid", 2, reserved=5))
    shipped = answers.shippable.get_nowait()
    assert shipped["lines"] == [{"sku": SKU, "quantity": 5, "warehouse": "UK1"}]
    answers.on_order(order("paid", 3, reserved=2, shipped=3))
    assert answers.shippable.empty() and answers.waiting() == 1
    answers.on_order(order("shipped", 4, shipped=5))
    assert answers.waiting() == 0


def test_a_run_that_ships_goes_on_where_an_earlier_one_only_paid() -> None:
    answers = OutcomeTracker(StockModel(), ships=True)
    answers.on_order(order("paid", 2, reserved=5))
    answers.begin()
    assert answers.shippable.empty()
    answers.sent_order(PLACED)
    assert answers.shippable.get_nowait()["order_id"] == "retail-1"


def test_an_event_that_was_refused_is_answered_by_its_dead_letter(answers: OutcomeTracker) -> None:
    answers.sent_movement({"id": "retail-C1-customer_return"})
    raw = '{"type":"order.placed","id":"retail-1-placed","order_id":"retail-1"}'
    answers.on_dead_letter(DeadLetterView("conflict", raw=raw))
    answers.on_dead_letter(DeadLetterView("too_old", raw='{"id":"retail-C1-customer_return"}'))
    answers.on_dead_letter(DeadLetterView("malformed_json", raw="nonsense"))
    assert answers.missing() == []
    assert dict(answers.dead_letters) == {"conflict": 1, "too_old": 1}
