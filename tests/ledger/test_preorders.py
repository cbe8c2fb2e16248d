"""Preorders (rules 12 to 14): promised beyond the stock, within their caps."""

from __future__ import annotations

from typing import Any

from tests.ledger.shop_client import ShopClient


async def _below_threshold(shop: ShopClient, **policy: Any) -> None:
    """Two units lie below the threshold, and the channel takes preorders."""
    usual: dict[str, Any] = {"safety_threshold": 5, "below_threshold": "preorder", "preorder_cap": 10}
    await shop.set_policy(**(usual | policy))
    await shop.receive("A", 2)


async def test_rule_12_in_preorder_a_line_is_preordered_whole_without_shelf_units(shop: ShopClient) -> None:
    await _below_threshold(shop)
    assert (await shop.place("o1", {"A": 3})).outcome == "preordered"
    line = shop.line("o1", "A")
    assert (line.state, line.reserved, line.preordered) == ("preordered", 0, 3)
    assert shop.stock("A").available == 2
    assert shop.stock("A").preordered == 3
    assert shop.offer("A") == ("preorder", 0, 7)


async def test_rule_12_in_stock_a_line_over_the_offer_is_never_turned_into_a_preorder(shop: ShopClient) -> None:
    await _below_threshold(shop)
    await shop.receive("A", 8)
    assert shop.offer("A") == ("in_stock", 10, 0)
    assert (await shop.place("o1", {"A": 11})).outcome == "insufficient_stock"
    assert shop.line("o1", "A").reason == "insufficient_stock"


async def test_rule_13_a_line_over_the_remaining_preorders_or_that_allows_none_is_refused(shop: ShopClient) -> None:
    await _below_threshold(shop)
    assert (await shop.place("o1", {"A": 11})).outcome == "preorder_cap_reached"
    assert (await shop.place("o2", {"A": 1}, allow_preorder=False)).outcome == "insufficient_stock"
    assert shop.stock("A").preordered == 0


async def test_rule_13_beyond_sold_out_preorders_the_cap_is_reached(shop: ShopClient) -> None:
    await _below_threshold(shop)
    await shop.place("o1", {"A": 10})
    assert shop.mode("A") == "sold_out"
    assert (await shop.place("o2", {"A": 1})).outcome == "preorder_cap_reached"
    assert (await shop.place("o3", {"A": 1}, allow_preorder=False)).outcome == "insufficient_stock"


async def test_rule_13_a_channel_without_a_cap_has_insufficient_stock(shop: ShopClient) -> None:
    await _below_threshold(shop, preorder_cap=0)
    assert shop.mode("A") == "sold_out"
    assert (await shop.place("o1", {"A": 1})).outcome == "insufficient_stock"


async def test_rule_14_the_cap_over_all_channels_bounds_every_channel(shop: ShopClient) -> None:
    await shop.set_policy("jd", below_threshold="preorder", preorder_cap=10)
    await _below_threshold(shop)
    await shop.adjust("lost", {"A": -2})
    await shop.set_policy("*", "A", preorder_cap=6)
    assert shop.offer("A", "tmall") == ("preorder", 0, 6)
    await shop.place("o1", {"A": 4})
    assert shop.offer("A", "jd") == ("preorder", 0, 2)
    assert (await shop.place("o2", {"A": 3}, channel="jd")).outcome == "preorder_cap_reached"
    assert (await shop.place("o3", {"A": 2}, channel="jd")).outcome == "preordered"
    assert shop.mode("A", "tmall") == "sold_out"


async def test_rule_14_backed_preorders_need_an_announcement(shop: ShopClient) -> None:
    await _below_threshold(shop, preorder_backed=True)
    assert shop.mode("A") == "sold_out"
    assert (await shop.place("o1", {"A": 1})).outcome == "preorder_cap_reached"


async def test_rule_14_cancels_and_expiries_free_the_cap(shop: ShopClient) -> None:
    await _below_threshold(shop)
    await shop.place("o1", {"A": 6})
    await shop.place("o2", {"A": 4}, hold_seconds=60)
    assert shop.mode("A") == "sold_out"
    await shop.cancel("o1")
    assert shop.offer("A") == ("preorder", 0, 6)
    await shop.tick_after(seconds=60)
    assert shop.offer("A") == ("preorder", 0, 10)


async def test_a_paid_preorder_stays_preordered_until_it_is_shipped_or_cancelled(shop: ShopClient) -> None:
    await _below_threshold(shop)
    await shop.place("o1", {"A": 6})
    await shop.pay("o1")
    order = shop.order("o1")
    assert (order.state, order.expires_at, order.lines[0].state) == ("paid", None, "preordered")
    await shop.tick_after(minutes=60)
    assert shop.stock("A").preordered == 6
    await shop.cancel("o1")
    assert shop.stock("A").preordered == 0
    assert shop.line("o1", "A").cancelled == 6


async def test_a_basket_may_hold_shelf_units_and_preorders(shop: ShopClient) -> None:
    await _below_threshold(shop)
    await shop.receive("B", 20)
    assert (await shop.place("o1", {"B": 1, "A": 1})).outcome == "reserved"
    assert [line.state for line in shop.order("o1").lines] == ["reserved", "preordered"]
