"""Pools together with orders that wait, that are already sold, or that change (rules 16, 28, 37, 49, 51 to 53)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.shop_client import ShopClient

SOLD: dict[str, Any] = {"accept": "sold"}


async def test_rule_16_a_release_from_a_pool_fills_the_queue(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 5)
    await shop.place("o1", {"A": 3}, **SOLD)
    assert (shop.line("o1", "A").short, shop.stock("A").available) == (3, -3)
    await shop.release("vip", 4)
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (line.short, line.warehouses, line.pools) == (0, {"SH1": 3}, {})
    assert (stock.pools(), stock.available) == ({"vip@SH1": 1}, 1)


async def test_rule_16_a_release_at_a_warehouse_fills_the_orders_of_the_channels_that_sell_from_it(
    shop: ShopClient,
) -> None:
    await shop.set_policy("jd", warehouses=("BJ1",))
    await shop.receive_at(SH1=5, BJ1=5)
    for warehouse in ("SH1", "BJ1"):
        await shop.set_aside("vip", 5, at=warehouse)
    await shop.place("o1", {"A": 2}, channel="jd", **SOLD)
    await shop.release("vip", 3, at="SH1")
    assert shop.line("o1", "A").short == 2
    await shop.release("vip", 3, at="BJ1")
    assert shop.line("o1", "A").warehouses == {"BJ1": 2}


@pytest.mark.parametrize("ticks", [True, False])
async def test_rule_16_the_end_of_a_pool_fills_the_queue(shop: ShopClient, ticks: bool) -> None:
    await shop.receive("A", 5)
    await shop.set_aside_for("vip", 5, ends=60)
    await shop.place("o1", {"A": 3}, **SOLD)
    shop.advance(60)
    await (shop.tick() if ticks else shop.place("o2", {"A": 9}))
    assert (shop.line("o1", "A").warehouses, shop.stock("A").available) == ({"SH1": 3}, 2)


async def test_rule_16_units_that_an_order_gives_back_to_a_pool_fill_nothing(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 5)
    await shop.place("o1", {"A": 5}, purpose="vip")
    await shop.place("o2", {"A": 3}, **SOLD)
    await shop.cancel("o1")
    assert (shop.line("o2", "A").short, shop.stock("A").pools()) == (3, {"vip@SH1": 5})


async def test_rule_37_units_that_are_promised_cannot_be_set_aside(shop: ShopClient) -> None:
    await shop.set_policy("jd", warehouses=("BJ1",))
    await shop.receive_at(SH1=5, BJ1=0)
    await shop.place("o1", {"A": 2}, channel="jd", **SOLD)
    assert (await shop.set_aside("vip", 4)).outcome == "more_than_available"
    assert (await shop.set_aside("vip", 3)).outcome == "reserved"
    assert shop.stock("A").available == 0


async def test_rule_49_a_sold_order_draws_from_its_pool_then_from_the_shelf_and_the_rest_is_short(
    shop: ShopClient,
) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 2)
    reply = await shop.place("o1", {"A": 9}, purpose="vip", **SOLD)
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (reply.outcome, line.state, line.reserved, line.short) == ("reserved", "reserved", 5, 4)
    assert (line.warehouses, line.pools) == ({"SH1": 5}, {"vip@SH1": 2})
    assert (stock.pools(), stock.locked, stock.available) == ({}, 5, -4)
    await shop.pay("o1")
    await shop.receive("A", 10)
    assert (shop.line("o1", "A").short, shop.line("o1", "A").pools) == (0, {"vip@SH1": 2})
    await shop.cancel("o1")
    assert (shop.stock("A").pools(), shop.stock("A").available) == ({"vip@SH1": 2}, 13)


async def test_rule_49_a_sold_order_that_its_pool_covers_takes_nothing_from_the_shelf(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 3)
    await shop.place("o1", {"A": 3}, purpose="vip", paid=True, **SOLD)
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (line.state, line.pools, line.short) == ("committed", {"vip@SH1": 3}, 0)
    assert (stock.committed, stock.locked, stock.available) == (3, 0, 2)


async def test_rule_49_what_pool_and_shelf_lack_is_preordered_where_the_channel_takes_preorders(
    shop: ShopClient,
) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=1)
    await shop.receive("A", 3)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 6}, purpose="vip", **SOLD)
    line = shop.line("o1", "A")
    assert (line.state, line.reserved, line.preordered, line.pools) == ("preordered", 3, 3, {"vip@SH1": 2})


async def test_rule_49_without_a_split_a_sold_line_takes_the_shelf_of_its_pools_warehouse_alone(
    shop: ShopClient,
) -> None:
    await shop.set_policy(split=False)
    await shop.receive_at(SH1=3, BJ1=9)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 6}, purpose="vip", **SOLD)
    line = shop.line("o1", "A")
    assert (line.warehouses, line.pools, line.short) == ({"SH1": 3}, {"vip@SH1": 2}, 3)


async def test_rule_28_a_channel_of_pools_alone_gets_nothing_from_the_shelf_by_a_sale_or_a_fill(
    shop: ShopClient,
) -> None:
    await shop.set_policy(purposes=("vip",), pool_only=True)
    await shop.receive("A", 5)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 3}, **SOLD)
    line = shop.line("o1", "A")
    assert (line.warehouses, line.pools, line.short) == ({"SH1": 2}, {"vip@SH1": 2}, 1)
    await shop.receive("A", 5)
    assert shop.line("o1", "A").short == 1
    await shop.set_policy()
    assert (shop.line("o1", "A").short, shop.line("o1", "A").warehouses) == (0, {"SH1": 3})


async def test_rule_51_units_that_wait_go_back_first_then_those_from_the_shelf_then_those_from_pools(
    shop: ShopClient,
) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 6}, purpose="vip", **SOLD)
    found = []
    for _ in range(6):
        await shop.cancel("o1", ("A", 1))
        line = shop.line("o1", "A")
        found.append((line.short, line.reserved, line.pools.get("vip@SH1", 0)))
    assert found == [(0, 5, 2), (0, 4, 2), (0, 3, 2), (0, 2, 2), (0, 1, 1), (0, 0, 0)]
    assert (shop.order("o1").state, shop.stock("A").pools()) == ("cancelled", {"vip@SH1": 2})
    assert shop.stock("A").available == 3


async def test_rule_51_the_smallest_hold_on_the_shelf_goes_back_first_then_the_smallest_of_pools(
    shop: ShopClient,
) -> None:
    await shop.receive_at(SH1=6, BJ1=6)
    await shop.set_aside("vip", 4)
    await shop.set_aside("vip", 2, at="BJ1")
    await shop.set_aside("sale", 1, at="BJ1")
    await shop.set_policy(purposes=("vip", "sale"))
    await shop.place("o1", {"A": 12}, paid=True)
    assert shop.line("o1", "A").pools == {"vip@SH1": 4, "vip@BJ1": 2, "sale@BJ1": 1}
    await shop.cancel("o1", ("A", 2))
    assert shop.line("o1", "A").warehouses == {"SH1": 4, "BJ1": 6}
    await shop.cancel("o1", ("A", 5))
    line = shop.line("o1", "A")
    assert (line.warehouses, line.pools) == ({"SH1": 4, "BJ1": 1}, {"vip@SH1": 4, "vip@BJ1": 1})
    assert shop.stock("A").pools() == {"sale@BJ1": 1, "vip@BJ1": 1}


async def test_rule_52_removed_units_return_to_the_pool_and_added_ones_come_from_it(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 2}, purpose="vip")
    assert (await shop.change("o1", remove={"A": 1}, add={"A": 3})).outcome == "changed"
    line = shop.line("o1", "A")
    assert (line.quantity, line.reserved, line.cancelled, line.pools) == (5, 4, 1, {"vip@SH1": 2})
    assert (shop.stock("A").pools(), shop.stock("A").available) == ({}, 1)


async def test_rule_52_a_refused_exchange_leaves_the_pools_as_they_were(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 2}, purpose="vip")
    before = shop.order("o1"), shop.stock("A"), shop.offer("A")
    assert (await shop.change("o1", remove={"A": 2}, add={"A": 6})).outcome == "insufficient_stock"
    assert (shop.order("o1"), shop.stock("A"), shop.offer("A")) == before
    await shop.cancel("o1")
    assert shop.stock("A").pools() == {"vip@SH1": 2}


async def test_rule_53_a_late_payment_draws_from_the_pool_again(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 4)
    await shop.place("o1", {"A": 5}, purpose="vip", hold_seconds=10)
    await shop.tick_after(10)
    assert shop.stock("A").pools() == {"vip@SH1": 4}
    assert (await shop.pay("o1", if_expired="take_again")).outcome == "paid"
    line, stock = shop.line("o1", "A"), shop.stock("A")
    assert (line.state, line.pools, stock.committed, stock.locked) == ("committed", {"vip@SH1": 4}, 5, 0)


async def test_rule_27_an_order_that_is_superseded_gives_its_pool_units_to_the_new_one(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.set_aside("vip", 4)
    await shop.place("o1", {"A": 4}, purpose="vip")
    await shop.place("o2", {"A": 9}, purpose="vip", supersedes="o1")
    assert (shop.order("o2").state, shop.line("o1", "A").pools) == ("rejected", {"vip@SH1": 4})
    await shop.place("o3", {"A": 9}, purpose="vip", supersedes="o1", **SOLD)
    line = shop.line("o3", "A")
    assert (shop.order("o1").state, line.pools, line.reserved, line.short) == ("cancelled", {"vip@SH1": 4}, 5, 4)
