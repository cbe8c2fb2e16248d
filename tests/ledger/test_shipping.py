"""Shipments and returns (rules 31 to 33): facts that are accepted in every state of the order."""

from __future__ import annotations

from tests.ledger.shop_client import ShopClient


async def test_an_order_is_shipped_when_every_unit_is(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 3, "SH1"))
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.state, line.reserved, line.shipped) == ("paid", "committed", 1, 3)
    await shop.ship("o1", ("A", 1, "SH1"))
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.state, line.reserved, line.shipped) == ("shipped", "shipped", 0, 4)
    assert line.warehouses == {}


async def test_a_rejected_line_of_a_partial_order_does_not_keep_it_from_being_shipped(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 2, "X": 1}, accept="partial")
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.order("o1").state == "shipped"


async def test_rule_31_a_shipment_from_elsewhere_lowers_committed_where_the_hold_is(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.receive("A", 2, at="BJ1")
    reply = await shop.ship("o1", ("A", 3, "BJ1"))
    stock = shop.stock("A")
    assert (stock.total("committed", "SH1"), stock.total("on_hand", "SH1")) == (1, 10)
    assert stock.total("on_hand", "BJ1") == -1
    assert "shortfall" in reply.alert_types, "below zero there is a shortfall"
    assert shop.line("o1", "A").warehouses == {"SH1": 1}


async def test_rule_31_other_holds_are_used_in_the_order_in_which_the_warehouses_appeared(shop: ShopClient) -> None:
    await shop.receive_at(BJ1=4, GZ1=1, SH1=2)
    await shop.place("o1", {"A": 7})
    await shop.pay("o1")
    await shop.ship("o1", ("A", 3, "SH1"))
    assert shop.line("o1", "A").warehouses == {"BJ1": 3, "GZ1": 1}


async def test_rule_31_holds_of_the_same_warehouse_are_used_first(shop: ShopClient) -> None:
    await shop.receive_at(SH1=3, BJ1=3)
    await shop.place("o1", {"A": 6})
    await shop.pay("o1")
    await shop.ship("o1", ("A", 2, "BJ1"))
    assert shop.line("o1", "A").warehouses == {"SH1": 3, "BJ1": 1}
    await shop.ship("o1", ("A", 2, "BJ1"))
    assert shop.line("o1", "A").warehouses == {"SH1": 2}


async def test_rule_31_an_unpaid_hold_that_is_shipped_is_paid_and_shipped_in_one_step(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    assert (await shop.ship("o1", ("A", 1, "SH1"))).outcome == "shipped"
    order = shop.order("o1")
    assert (order.state, order.expires_at, order.sequence) == ("paid", None, 2), "one change of the order"
    stock = shop.stock("A")
    assert (stock.on_hand, stock.committed, stock.locked, stock.available) == (9, 3, 0, 6)
    await shop.ship("o1", ("A", 3, "SH1"))
    assert shop.order("o1").state == "shipped"


async def test_rule_32_shipped_after_cancel_lowers_on_hand_with_an_alert(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.cancel("o1")
    reply = await shop.ship("o1", ("A", 4, "SH1"))
    assert reply.outcome == "shipped"
    assert "shipped_beyond_order" in reply.alert_types
    assert (shop.order("o1").state, shop.stock("A").on_hand, shop.stock("A").available) == ("cancelled", 6, 6)


async def test_rule_32_shipped_after_expiry_lowers_on_hand_with_an_alert(shop: ShopClient) -> None:
    await shop.hold(4, of=10, hold_seconds=1)
    shop.advance(seconds=1)
    assert "shipped_beyond_order" in (await shop.ship("o1", ("A", 4, "SH1"))).alert_types
    assert (shop.order("o1").state, shop.stock("A").on_hand, shop.stock("A").available) == ("expired", 6, 6)


async def test_rule_32_shipped_beyond_the_order_lowers_on_hand_with_an_alert(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    assert "shipped_beyond_order" in (await shop.ship("o1", ("A", 6, "SH1"))).alert_types
    stock = shop.stock("A")
    assert (shop.order("o1").state, stock.on_hand, stock.committed, stock.available) == ("shipped", 4, 0, 4)


async def test_rule_32_a_sku_that_is_not_in_the_order_is_refused(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.receive("B", 5)
    reply = await shop.ship("o1", ("A", 4, "SH1"), ("B", 1, "SH1"), by_kafka=True)
    assert (reply.outcome, reply.refused) == ("not_in_order", ("not_in_order",))
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (10, 5), "the whole event is refused"


async def test_rule_32_an_unfilled_preorder_that_is_shipped_lowers_preordered_and_on_hand(shop: ShopClient) -> None:
    await shop.set_policy(sku="A", below_threshold="preorder", preorder_cap=10, safety_threshold=5)
    await shop.buy(3, of=5)
    assert "shipped_beyond_order" not in (await shop.ship("o1", ("A", 3, "SH1"))).alert_types
    assert (shop.order("o1").state, shop.stock("A").on_hand, shop.stock("A").preordered) == ("shipped", 2, 0)


async def test_rule_33_returns_beyond_shipped_refuse_the_whole_event(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 4, "SH1"))
    assert (await shop.take_back("o1", ("A", 3, "SH1"), ("A", 2, "SH1", "damaged"))).outcome == "more_than_shipped"
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (6, 0)
    assert (await shop.take_back("o1", ("A", 4, "SH1"))).outcome == "returned"
    assert (await shop.take_back("o1", ("A", 1, "SH1"))).outcome == "more_than_shipped"


async def test_rule_33_units_that_were_ordered_and_not_shipped_cannot_come_back(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    assert (await shop.take_back("o1", ("A", 1, "SH1"))).outcome == "more_than_shipped"
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (await shop.take_back("o1", ("A", 3, "SH1"))).outcome == "more_than_shipped"
    assert shop.stock("A").on_hand == 8


async def test_rule_33_any_warehouse_may_receive_a_return(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 4, "SH1"))
    await shop.take_back("o1", ("A", 1, "GZ1"))
    assert shop.stock("A").free("GZ1") == 1


async def test_rule_33_the_order_stays_shipped_and_a_line_is_returned_when_all_of_it_is(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 4, "SH1"))
    await shop.take_back("o1", ("A", 3, "SH1"))
    assert (shop.line("o1", "A").state, shop.line("o1", "A").returned) == ("shipped", 3)
    await shop.take_back("o1", ("A", 1, "SH1"))
    assert (shop.order("o1").state, shop.line("o1", "A").state) == ("shipped", "returned")


async def test_rule_33_a_damaged_return_raises_only_damaged(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 4, "SH1"))
    await shop.take_back("o1", ("A", 1, "SH1", "damaged"))
    stock = shop.stock("A")
    assert (stock.on_hand, stock.available, stock.damaged) == (6, 6, 1)


async def test_rule_33_a_sku_that_is_not_in_the_order_cannot_be_returned(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    assert (await shop.take_back("o1", ("B", 1, "SH1"))).outcome == "not_in_order"


async def test_rule_33_a_returned_line_of_which_more_is_shipped_is_not_all_returned(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    await shop.ship("o1", ("A", 4, "SH1"))
    await shop.take_back("o1", ("A", 4, "SH1"))
    await shop.ship("o1", ("A", 1, "SH1"))
    assert shop.line("o1", "A").state == "shipped"
