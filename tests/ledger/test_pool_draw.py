"""Orders that draw from pools, by their purpose or by the policy of their channel (rule 28)."""

from __future__ import annotations

import pytest

from tests.ledger.shop_client import ShopClient


async def test_rule_28_an_order_draws_from_the_pool_first_and_takes_the_rest_from_the_shelf(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.place("o1", {"A": 6}, purpose="vip")).outcome == "reserved"
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (line.reserved, line.warehouses, line.pools) == (6, {"SH1": 6}, {"vip@SH1": 4})
    assert (stock.locked, stock.pools(), stock.available) == (6, {}, 4)


async def test_rule_28_the_pool_part_ignores_mode_and_buffer(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=50, below_threshold="suspend")
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.place("o1", {"A": 1})).outcome == "channel_suspended"
    assert (await shop.place("o2", {"A": 5}, purpose="vip")).outcome == "channel_suspended"
    assert (await shop.place("o3", {"A": 4}, purpose="vip")).outcome == "reserved"
    await shop.set_policy(buffer=100)
    await shop.set_aside("vip", 2)
    assert (await shop.place("o4", {"A": 2}, purpose="vip")).outcome == "reserved"


async def test_rule_28_the_rest_is_bound_by_what_the_channel_may_take_from_the_shelf(shop: ShopClient) -> None:
    await shop.set_policy(buffer=3)
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.place("o1", {"A": 8}, purpose="vip")).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 7}, purpose="vip")).outcome == "reserved"


async def test_rule_28_an_unknown_purpose_is_an_empty_pool(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.place("o1", {"A": 7}, purpose="other")).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 6}, purpose="v@ip")).outcome == "reserved"
    assert shop.stock("A").pools() == {"vip@SH1": 4}


async def test_rule_28_where_the_channel_takes_preorders_the_rest_is_preordered(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="preorder", preorder_cap=10)
    await shop.receive("A", 5)
    await shop.set_aside("vip", 3)
    assert (await shop.place("o1", {"A": 5}, purpose="vip")).outcome == "preordered"
    line = shop.line("o1", "A")
    assert (line.state, line.reserved, line.preordered, line.pools) == ("preordered", 3, 2, {"vip@SH1": 3})
    await shop.pay("o1")
    assert shop.line("o1", "A").state == "preordered"
    await shop.cancel("o1")
    stock = shop.stock("A")
    assert (stock.pools(), stock.preordered, stock.committed, stock.available) == ({"vip@SH1": 3}, 0, 0, 2)


@pytest.mark.parametrize("end", ["cancelled", "cancelled after payment", "expired"])
async def test_rule_28_an_ended_order_returns_units_to_where_they_came_from(shop: ShopClient, end: str) -> None:
    await shop.receive_at(SH1=5, BJ1=5)
    await shop.set_aside("vip", 4)
    await shop.set_aside("vip", 1, at="BJ1")
    await shop.place("o1", {"A": 8}, purpose="vip", hold_seconds=60)
    assert shop.stock("A").pools() == {}
    if end == "expired":
        await shop.tick_after(seconds=60)
    elif end == "cancelled":
        await shop.cancel("o1")
    else:
        await shop.pay("o1")
        await shop.cancel("o1")
    stock = shop.stock("A")
    assert (stock.pools(), stock.available, stock.locked) == ({"vip@SH1": 4, "vip@BJ1": 1}, 5, 0)
    assert shop.line("o1", "A").pools == {}


async def test_units_from_pools_ship_first_and_the_rest_returns(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    await shop.place("o1", {"A": 6}, purpose="vip")
    await shop.pay("o1")
    await shop.ship("o1", ("A", 3, "SH1"))
    assert shop.line("o1", "A").pools == {"vip@SH1": 1}
    await shop.cancel("o1")
    stock = shop.stock("A")
    assert (stock.pools(), stock.on_hand, stock.available) == ({"vip@SH1": 1}, 7, 6)


async def test_a_pool_never_gives_units_that_are_not_in_the_building(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 8)
    shop.advance(seconds=1)
    await shop.count({"A": 3})
    assert (await shop.place("o1", {"A": 4}, purpose="vip")).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 3}, purpose="vip")).outcome == "reserved"
    assert (shop.stock("A").pools(), shop.stock("A").available) == ({"vip@SH1": 5}, -5)


async def test_a_line_draws_from_one_warehouse_that_can_fill_it_before_it_is_split(shop: ShopClient) -> None:
    await shop.receive_at(SH1=10, BJ1=10)
    await shop.set_aside("vip", 3)
    await shop.set_aside("vip", 5, at="BJ1")
    await shop.place("o1", {"A": 5}, purpose="vip")
    assert shop.line("o1", "A").pools == {"vip@BJ1": 5}
    await shop.cancel("o1")
    await shop.place("o2", {"A": 7}, purpose="vip")
    assert shop.line("o2", "A").pools == {"vip@BJ1": 5, "vip@SH1": 2}


async def test_without_split_a_line_is_of_one_warehouse_or_whole_from_the_shelf(shop: ShopClient) -> None:
    await shop.set_policy(split=False)
    await shop.receive_at(SH1=5, BJ1=20)
    await shop.set_aside("vip", 3)
    await shop.place("o1", {"A": 5}, purpose="vip")
    assert (shop.line("o1", "A").warehouses, shop.line("o1", "A").pools) == ({"SH1": 5}, {"vip@SH1": 3})
    await shop.cancel("o1")
    await shop.place("o2", {"A": 6}, purpose="vip")
    assert (shop.line("o2", "A").warehouses, shop.line("o2", "A").pools) == ({"BJ1": 6}, {})


async def test_a_channel_draws_only_from_pools_of_the_warehouses_that_it_sells_from(shop: ShopClient) -> None:
    await shop.set_policy(warehouses=["BJ1"])
    await shop.receive_at(SH1=5, BJ1=5)
    await shop.set_aside("vip", 5)
    await shop.place("o1", {"A": 2}, purpose="vip")
    assert (shop.line("o1", "A").warehouses, shop.line("o1", "A").pools) == ({"BJ1": 2}, {})


async def test_rule_27_a_superseded_order_gives_its_pool_units_to_the_new_one_only_if_that_is_accepted(
    shop: ShopClient,
) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    await shop.place("o1", {"A": 4}, purpose="vip")
    assert (await shop.place("o2", {"A": 11}, purpose="vip", supersedes="o1")).outcome == "insufficient_stock"
    assert (shop.line("o1", "A").pools, shop.stock("A").pools()) == ({"vip@SH1": 4}, {})
    assert (await shop.place("o3", {"A": 3}, purpose="vip", supersedes="o1")).outcome == "reserved"
    assert (shop.line("o3", "A").pools, shop.stock("A").pools()) == ({"vip@SH1": 3}, {"vip@SH1": 1})


async def test_rule_11_a_vip_line_takes_the_rest_from_the_shelf_whatever_the_mode(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=50, below_threshold="suspend")
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.place("o1", {"A": 11}, purpose="vip", priority="vip")).outcome == "channel_suspended"
    assert (await shop.place("o2", {"A": 10}, purpose="vip", priority="vip")).outcome == "reserved"


async def test_a_channel_with_purposes_offers_the_units_of_its_pools_beside_the_shelf(shop: ShopClient) -> None:
    await shop.set_policy("tmall", purposes=["double-11"], buffer=2, max_listed=3, share=0.5)
    await shop.subscribe("jd")
    await shop.receive("A", 20)
    await shop.set_aside("double-11", 5)
    assert (shop.offer("A", "tmall").quantity, shop.offer("A", "jd").quantity) == (3 + 5, 15)
    assert (await shop.place("o1", {"A": 9})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 7})).outcome == "reserved"
    assert shop.line("o2", "A").pools == {"double-11@SH1": 5}
    await shop.cancel("o2")
    assert shop.stock("A").pools() == {"double-11@SH1": 5}


async def test_a_channel_below_its_threshold_is_in_stock_by_its_pools_alone(shop: ShopClient) -> None:
    await shop.set_policy(
        "tmall", purposes=["double-11"], safety_threshold=10, below_threshold="preorder", preorder_cap=9
    )
    await shop.receive("A", 8)
    assert shop.mode("A") == "preorder"
    await shop.set_aside("double-11", 3)
    assert (shop.mode("A"), shop.offer("A").quantity, shop.offer("A").preorder_remaining) == ("in_stock", 3, 0)
    assert (await shop.place("o1", {"A": 4})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 3})).outcome == "reserved"
    assert shop.mode("A") == "preorder"


async def test_a_campaign_sells_from_its_pool_only(shop: ShopClient) -> None:
    await shop.set_policy("campaign", purposes=["double-11"], pool_only=True)
    await shop.receive("A", 20)
    await shop.set_aside("double-11", 5)
    assert shop.offer("A", "campaign").quantity == 5
    assert (await shop.place("o1", {"A": 6}, channel="campaign")).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 6}, channel="campaign", priority="vip")).outcome == "insufficient_stock"
    assert (await shop.place("o3", {"A": 5}, channel="campaign")).outcome == "reserved"
    assert shop.mode("A", "campaign") == "sold_out"
    assert (await shop.place("o4", {"A": 1}, channel="campaign", priority="vip")).outcome == "insufficient_stock"


async def test_without_split_a_channel_offers_what_one_line_may_take(shop: ShopClient) -> None:
    await shop.set_policy("tmall", purposes=["vip"], split=False)
    await shop.receive_at(SH1=5, BJ1=12)
    await shop.set_aside("vip", 4)
    assert shop.offer("A").quantity == 12
    await shop.receive("A", 20)
    assert shop.offer("A").quantity == 25
    assert (await shop.place("o1", {"A": 26})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 25})).outcome == "reserved"
    assert (shop.line("o2", "A").warehouses, shop.line("o2", "A").pools) == ({"SH1": 25}, {"vip@SH1": 4})


async def test_an_order_draws_from_the_pool_that_it_names_before_those_of_its_channel(shop: ShopClient) -> None:
    await shop.set_policy("tmall", purposes=["vip", "sale"])
    await shop.receive("A", 20)
    await shop.set_aside("vip", 2)
    await shop.set_aside("sale", 2)
    await shop.place("o1", {"A": 3}, purpose="sale")
    assert shop.line("o1", "A").pools == {"sale@SH1": 2, "vip@SH1": 1}


async def test_a_purpose_with_an_at_sign_never_reaches_the_pool_of_another_warehouse(shop: ShopClient) -> None:
    await shop.receive_at(X=5)
    await shop.receive("A", 5, at="SH1@X")
    await shop.set_aside("sale", 5, at="X")
    await shop.set_aside("vip", 5, at="SH1@X")
    assert (await shop.place("o1", {"A": 1}, purpose="vip@SH1")).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 1}, purpose="vip")).outcome == "reserved"
    assert shop.line("o2", "A").pools == {"vip@SH1@X": 1}
    await shop.cancel("o2")
    assert shop.stock("A").pools() == {"sale@X": 5, "vip@SH1@X": 5}
