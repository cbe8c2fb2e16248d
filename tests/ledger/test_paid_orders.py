"""Orders that are paid with their placing (rule 50)."""

from __future__ import annotations

from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient


async def test_rule_50_an_order_is_placed_and_paid_in_one_step(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    assert (await shop.place("o1", {"A": 4}, paid=True)).outcome == "reserved"
    order, stock = shop.order("o1"), shop.stock("A")
    assert (order.state, order.expires_at, order.sequence) == ("paid", None, 1)
    assert (order.lines[0].state, order.lines[0].warehouses) == ("committed", {"SH1": 4})
    assert (stock.on_hand, stock.committed, stock.locked, stock.available) == (10, 4, 0, 6)
    await shop.tick_after(minutes=60)
    assert shop.order("o1").state == "paid", "there is no hold that could end"


async def test_rule_50_the_payment_that_comes_besides_is_a_repeat_and_the_order_goes_its_way(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.pay("o1", by_kafka=True)
    await shop.place("o1", {"A": 4}, paid=True)
    assert (await shop.pay("o1")).result == ("paid", True)
    assert (await shop.extend("o1")).outcome == "already_final"
    await shop.ship("o1", ("A", 1, "SH1"))
    assert (shop.stock("A").on_hand, shop.stock("A").committed) == (9, 3)
    await shop.cancel("o1")
    assert (shop.order("o1").state, shop.stock("A").available) == ("shipped", 9)


async def test_rule_50_the_rules_of_the_channel_decide_as_for_an_unpaid_order(shop: ShopClient) -> None:
    await shop.receive_all({"A": 3, "B": 3})
    assert (await shop.place("o1", {"A": 4}, paid=True)).outcome == "insufficient_stock"
    assert shop.order("o1").state == "rejected"
    assert (await shop.place("o2", {"A": 1, "B": 4}, paid=True, accept="partial")).outcome == "partial"
    assert [line.state for line in shop.order("o2").lines] == ["committed", "rejected"]
    await shop.set_policy(sku="A", safety_threshold=5, below_threshold="preorder", preorder_cap=5)
    assert (await shop.place("o3", {"A": 2}, paid=True)).outcome == "preordered"
    assert (shop.order("o3").state, shop.order("o3").expires_at) == ("paid", None)
    assert (shop.line("o3", "A").state, shop.stock("A").preordered) == ("preordered", 2)


async def test_rule_50_whether_it_is_paid_is_part_of_the_body(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4}, paid=True)
    assert (await shop.place("o1", {"A": 4}, paid=True)).result == ("reserved", True)
    assert (await shop.place("o1", {"A": 4})).outcome == "conflict"
    assert shop.stock("A").committed == 4


async def test_rule_50_a_paid_order_may_supersede_a_hold_and_is_never_superseded(shop: ShopClient) -> None:
    await shop.hold(4, of=4)
    assert (await shop.place("o2", {"A": 4}, paid=True, supersedes="o1")).outcome == "reserved"
    assert (shop.order("o1").state, shop.stock("A").committed) == ("cancelled", 4)
    assert (await shop.place("o3", {"A": 1}, supersedes="o2")).outcome == "already_final"


@ON_VALKEY
async def test_rule_50_a_paid_order_is_at_risk_where_its_units_are_and_has_no_deadline(shop: RedisShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4}, paid=True)
    assert set(await shop.index("held:A")) == {b"o1"} and not await shop.index("deadlines")
    reply = await shop.count({"A": 1})
    (shortfall,) = [alert for alert in reply.alerts if alert.type == "shortfall"]
    assert shortfall.orders == ("o1",)
