"""Cancellation of single units of an order (rule 51)."""

from __future__ import annotations

import pytest

from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient


@pytest.mark.parametrize("paid", [False, True])
async def test_rule_51_units_of_a_line_go_back_before_and_after_payment(shop: ShopClient, paid: bool) -> None:
    await (shop.buy(4, of=10) if paid else shop.hold(4, of=10))
    before = shop.order("o1")
    assert (await shop.cancel("o1", ("A", 3))).outcome == "cancelled"
    order, line, stock = shop.order("o1"), shop.line("o1", "A"), shop.stock("A")
    assert (line.reserved, line.cancelled, line.warehouses) == (1, 3, {"SH1": 1})
    assert (order.state, line.state) == (before.state, before.lines[0].state), "a unit is left"
    assert (order.expires_at, order.sequence) == (before.expires_at, before.sequence + 1)
    assert (stock.locked, stock.committed, stock.available) == ((0, 1, 9) if paid else (1, 0, 9))


async def test_rule_51_only_the_units_that_were_named_move(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5, "C": 5})
    await shop.place("o1", {"A": 2, "B": 3, "C": 4})
    await shop.cancel("o1", ("B", 1), ("C", 4))
    assert [(line.state, line.reserved, line.cancelled) for line in shop.order("o1").lines] == [
        ("reserved", 2, 0),
        ("reserved", 2, 1),
        ("cancelled", 0, 4),
    ]
    assert [shop.stock(sku).locked for sku in "ABC"] == [2, 2, 0]


@pytest.mark.parametrize("paid", [False, True])
async def test_rule_51_an_order_whose_every_unit_is_cancelled_is_cancelled(shop: ShopClient, paid: bool) -> None:
    await (shop.buy(4, of=10) if paid else shop.hold(4, of=10))
    await shop.cancel("o1", ("A", 1))
    await shop.cancel("o1", ("A", 3))
    order = shop.order("o1")
    assert (order.state, order.expires_at, order.lines[0].state, order.lines[0].cancelled) == (
        "cancelled",
        None,
        "cancelled",
        4,
    )
    assert (await shop.cancel("o1")).result == ("cancelled", True)
    assert (await shop.pay("o1")).outcome == "already_final"
    assert shop.stock("A").available == 10


async def test_rule_51_more_than_is_open_refuses_the_whole_event(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 2, "B": 3})
    for lines in ((("B", 1), ("A", 3)), (("A", 1), ("A", 2)), (("A", 2), ("B", 4))):
        reply = await shop.cancel("o1", *lines, by_kafka=True)
        assert (reply.outcome, reply.refused) == ("more_than_open", ("more_than_open",))
    assert (await shop.cancel("o1", ("A", 1), ("X", 1), by_kafka=True)).refused == ("not_in_order",)
    assert shop.order("o1").sequence == 1
    assert (shop.stock("A").locked, shop.stock("B").locked) == (2, 3)


async def test_rule_51_what_was_shipped_is_not_open(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (await shop.cancel("o1", ("A", 3))).outcome == "more_than_open"
    assert (await shop.cancel("o1", ("A", 1))).outcome == "cancelled"
    assert shop.order("o1").state == "paid"
    await shop.ship("o1", ("A", 1, "SH1"))
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.state, line.shipped, line.cancelled) == ("shipped", "shipped", 3, 1)
    assert (await shop.cancel("o1", ("A", 1))).outcome == "more_than_open"
    assert (await shop.cancel("o1")).outcome == "already_final", "all that was left of it is shipped"


async def test_rule_51_a_partly_shipped_order_whose_rest_is_cancelled_ends_shipped(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 1, "SH1"))
    await shop.cancel("o1", ("A", 3))
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (shop.order("o1").state, line.state, line.shipped, line.cancelled) == ("shipped", "cancelled", 1, 3)
    assert (stock.on_hand, stock.committed, stock.available) == (9, 0, 9)


async def test_rule_51_the_smallest_holds_go_back_first(shop: ShopClient) -> None:
    await shop.receive_at(SH1=3, BJ1=5, GZ1=3)
    await shop.place("o1", {"A": 11})
    await shop.cancel("o1", ("A", 4))
    assert shop.line("o1", "A").warehouses == {"GZ1": 2, "BJ1": 5}


async def test_rule_51_a_preordered_line_frees_its_cap_and_reserves_nothing_new(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="preorder", preorder_cap=10)
    await shop.receive("A", 5)
    await shop.place("o1", {"A": 10})
    assert shop.mode("A") == "sold_out"
    await shop.cancel("o1", ("A", 4))
    line = shop.line("o1", "A")
    assert (line.state, line.preordered, line.reserved, line.cancelled) == ("preordered", 6, 0, 4)
    assert shop.offer("A") == ("preorder", 0, 4)
    assert (shop.stock("A").available, shop.stock("A").preordered) == (5, 6)


async def test_rule_51_a_repeat_counts_once_and_another_body_is_a_conflict(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    assert (await shop.cancel("o1", ("A", 1), id="c")).outcome == "cancelled"
    assert (await shop.cancel("o1", ("A", 1), id="c")).result == ("cancelled", True)
    assert (await shop.cancel("o1", ("A", 2), id="c")).outcome == "conflict"
    assert (await shop.cancel("o1", id="c")).outcome == "conflict"
    assert shop.line("o1", "A").cancelled == 1


async def test_rule_51_an_order_that_ended_otherwise_has_no_units_to_cancel(shop: ShopClient) -> None:
    await shop.hold(4, of=10, hold_seconds=10)
    await shop.place("o2", {"A": 99})
    shop.advance(seconds=10)
    assert (await shop.cancel("o1", ("A", 1))).outcome == "already_final"
    assert (await shop.cancel("o2", ("A", 1))).outcome == "already_final"


async def test_rule_51_a_line_that_was_cancelled_stays_so_when_the_hold_expires(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 2, "B": 3}, hold_seconds=10)
    await shop.cancel("o1", ("A", 2), ("B", 1))
    await shop.tick_after(seconds=10)
    assert [(line.state, line.cancelled) for line in shop.order("o1").lines] == [("cancelled", 2), ("expired", 1)]
    assert shop.stock("B").available == 5


async def test_rule_51_a_rejected_line_of_a_partial_order_has_nothing_open(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.place("o1", {"A": 2, "B": 3}, accept="partial")
    assert (await shop.cancel("o1", ("B", 1))).outcome == "more_than_open"
    assert (await shop.cancel("o1", ("A", 2))).outcome == "cancelled"
    assert shop.order("o1").state == "cancelled"


async def test_rule_51_a_partial_cancellation_that_comes_before_its_order_waits_for_it(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    assert (await shop.cancel("o1", ("A", 1), by_kafka=True)).outcome == "parked"
    assert (await shop.cancel("o1", ("A", 9), by_kafka=True)).outcome == "parked"
    reply = await shop.place("o1", {"A": 3})
    assert (reply.outcome, reply.refused, reply.alert_types) == ("reserved", ("more_than_open",), {"wait_failed"})
    assert (shop.line("o1", "A").reserved, shop.line("o1", "A").cancelled) == (2, 1)


async def test_rule_51_a_parked_return_is_refused_when_its_units_are_cancelled(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.take_back("o1", ("A", 3, "SH1"), by_kafka=True)
    assert (await shop.cancel("o1", ("A", 1))).refused == ()
    assert (await shop.cancel("o1", ("A", 1))).refused == ("more_than_shipped",)


async def test_rule_42_a_cancellation_of_everything_is_accepted_after_any_number_of_others(shop: ShopClient) -> None:
    await shop.hold(100, of=100)
    for number in range(70):
        assert (await shop.cancel("o1", ("A", 1), id=f"c{number}")).outcome == "cancelled"
    assert (await shop.cancel("o1", ("A", 1), id="c69")).replayed
    assert (await shop.cancel("o1")).outcome == "cancelled"
    assert (shop.line("o1", "A").cancelled, shop.stock("A").available) == (100, 100)


@ON_VALKEY
@pytest.mark.parametrize("limits", [LedgerLimits()])
async def test_rule_51_units_of_two_thousand_lines_are_cancelled_in_one_short_call(shop: RedisShopClient) -> None:
    units = {f"s{number:04d}": 2 for number in range(2_000)}
    await shop.receive_all(units)
    await shop.place("o1", units)
    cancel = [(sku, 1) for sku in reversed(units)]
    assert (await shop.cancel("o1", *cancel)).outcome == "cancelled"
    assert {(line.reserved, line.cancelled) for line in shop.order("o1").lines} == {(1, 1)}
