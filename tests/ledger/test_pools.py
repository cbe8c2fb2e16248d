"""Pools: units that are set aside for a purpose (rules 28 and 37)."""

from __future__ import annotations

import pytest

from stocktide.ops.explain.describe import describe_change
from stocktide.streams.contract.events import StockReleased, StockReserved
from stocktide.tables.history.sku_history import changes_of
from stocktide.tables.ledger.client import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, ShopClient, time_at


async def test_rule_37_units_in_a_pool_are_not_available(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive("A", 10)
    reply = await shop.set_aside("vip", 4)
    stock = shop.stock("A")
    assert (reply.outcome, stock.pools()) == ("reserved", {"vip@SH1": 4})
    assert (stock.on_hand, stock.physical, stock.reserved, stock.available) == (10, 10, 4, 6)
    assert shop.offer("A").quantity == 6
    assert (await shop.place("o1", {"A": 7})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 6})).outcome == "reserved"


async def test_rule_37_released_units_are_back_on_the_shelf(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    assert (await shop.release("vip", 3)).outcome == "released"
    assert (shop.stock("A").pools(), shop.offer("A").quantity) == ({"vip@SH1": 1}, 9)


async def test_rule_37_more_than_is_available_in_the_warehouse_cannot_be_set_aside(shop: ShopClient) -> None:
    await shop.receive_at(SH1=5, BJ1=5)
    await shop.place("o1", {"A": 1})
    reply = await shop.set_aside("vip", 5, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("more_than_available", ("more_than_available",))
    await shop.set_aside("vip", 4)
    assert (await shop.set_aside("sale", 1)).outcome == "more_than_available"
    assert (await shop.set_aside("sale", 1, at="GZ1")).outcome == "more_than_available"
    assert shop.stock("A").pools() == {"vip@SH1": 4}


async def test_rule_37_more_than_the_pool_cannot_be_released(shop: ShopClient) -> None:
    await shop.receive_at(SH1=5, BJ1=5)
    await shop.set_aside("vip", 4)
    for purpose, units, warehouse in (("vip", 5, "SH1"), ("sale", 1, "SH1"), ("vip", 1, "BJ1")):
        reply = await shop.release(purpose, units, warehouse, by_kafka=True)
        assert (reply.outcome, reply.refused) == ("more_than_reserved", ("more_than_reserved",))
    assert shop.stock("A").pools() == {"vip@SH1": 4}


async def test_rule_37_nothing_is_set_aside_of_an_unknown_sku(shop: ShopClient) -> None:
    assert (await shop.set_aside("vip", 1)).outcome == "unknown_sku"
    assert (await shop.release("vip", 1)).outcome == "unknown_sku"


async def test_rule_34_a_movement_into_a_pool_is_all_or_nothing(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    reply = await shop.submit(shop.pool_command(StockReserved, "vip", {"A": 2, "B": 6}))
    assert (reply.outcome, shop.stock("A").pools()) == ("more_than_available", {})
    await shop.submit(shop.pool_command(StockReserved, "vip", {"A": 2, "B": 3}))
    reply = await shop.submit(shop.pool_command(StockReleased, "vip", {"A": 2, "B": 4}))
    assert (reply.outcome, shop.stock("A").pools()) == ("more_than_reserved", {"vip@SH1": 2})


async def test_a_repeat_of_a_movement_into_a_pool_counts_once(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    command = shop.pool_command(StockReserved, "vip", {"A": 2}, id="m")
    await shop.submit(command)
    assert (await shop.submit(command)).result == ("reserved", True)
    other = shop.pool_command(StockReserved, "sale", {"A": 2}, id="m")
    assert (await shop.submit(other)).outcome == "conflict"
    assert shop.stock("A").pools() == {"vip@SH1": 2}


async def test_a_count_below_what_is_in_pools_is_a_shortfall(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 6)
    shop.advance(seconds=1)
    reply = await shop.count({"A": 5})
    assert ("shortfall" in reply.alert_types, shop.stock("A").available) == (True, -1)
    assert (await shop.release("vip", 6)).outcome == "released"
    assert shop.stock("A").available == 5


async def test_a_channel_that_falls_to_its_threshold_by_a_pool_leaves_the_shelf(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend")
    await shop.receive("A", 10)
    await shop.set_aside("vip", 5)
    assert shop.mode("A") == "suspended"
    await shop.release("vip", 1)
    assert (shop.mode("A"), shop.offer("A").quantity) == ("in_stock", 6)


async def test_a_channel_of_one_warehouse_sees_the_pools_of_that_one_alone(shop: ShopClient) -> None:
    await shop.set_policy("tmall", warehouses=["SH1"])
    await shop.set_policy("jd", warehouses=["BJ1"])
    await shop.receive_at(SH1=10, BJ1=10)
    await shop.set_aside("vip", 7)
    assert (shop.offer("A", "tmall").quantity, shop.offer("A", "jd").quantity) == (3, 10)


@ON_VALKEY
async def test_a_refused_movement_names_the_path_of_its_first_wrong_line(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    for kind, lines, path in (
        (StockReserved, {"A": 1, "B": 6}, "lines[1].quantity"),
        (StockReserved, {"A": 1, "X": 1}, "lines[1].sku"),
        (StockReleased, {"A": 1}, "lines[0].quantity"),
    ):
        await shop.submit(shop.pool_command(kind, "vip", lines, id=f"m{path}", by_kafka=True))
        assert shop.driver.movement("SH1", f"m{path}").detail == path
        assert shop.driver.decisions[-1].refused[0].detail == path


@ON_VALKEY
async def test_a_sku_has_a_bounded_number_of_pools(shop: RedisShopClient) -> None:
    await shop.receive("A", 1_000)
    await shop.submit_all(*(shop.pool_command(StockReserved, f"p{number}", {"A": 1}) for number in range(256)))
    assert len(shop.stock("A").pools()) == 256
    assert (await shop.set_aside("more", 1, id="m")).outcome == "too_large"
    assert shop.driver.movement("SH1", "m").detail == "lines[0].sku"
    assert (await shop.set_aside("p7", 1)).outcome == "reserved"


@ON_VALKEY
@pytest.mark.parametrize("limits", [LedgerLimits(lines_per_step=1, step_bytes_max=128)])
async def test_a_movement_into_pools_is_whole_in_one_call_or_too_large(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 5})
    await shop.receive_all({"B": 5})
    assert (await shop.submit(shop.pool_command(StockReserved, "vip", {"A": 2}))).outcome == "reserved"
    reply = await shop.submit(shop.pool_command(StockReserved, "vip", {"A": 2, "B": 2}))
    assert (reply.outcome, shop.stock("B").pools()) == ("too_large", {})


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


async def test_a_pool_is_usable_only_between_its_times(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, begins=60, ends=120)
    assert shop.stock("A").available == 6, "its units are set aside from the start"
    assert (await shop.place("o1", {"A": 7}, purpose="vip")).outcome == "insufficient_stock"
    shop.advance(seconds=60)
    assert (await shop.place("o2", {"A": 7}, purpose="vip")).outcome == "reserved"
    assert shop.line("o2", "A").pools == {"vip@SH1": 4}
    await shop.cancel("o2")
    shop.advance(seconds=60)
    await shop.place("o3", {"A": 7}, purpose="vip")
    assert (shop.line("o3", "A").pools, shop.stock("A").pools()) == ({}, {})


async def test_what_is_left_of_a_pool_returns_to_the_shelf_at_its_end_exactly_once(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, ends=60)
    await shop.place("o1", {"A": 1}, purpose="vip", hold_seconds=600)
    assert (await shop.tick_after(seconds=59)).outcome == "nothing_due"
    assert (await shop.tick_after(seconds=1)).outcome == "expired"
    assert (shop.stock("A").pools(), shop.stock("A").available, shop.offer("A").quantity) == ({}, 9, 9)
    assert (await shop.tick_after(seconds=1)).outcome == "nothing_due"
    assert shop.stock("A").available == 9


async def test_units_that_an_order_gives_back_after_the_end_of_their_pool_go_to_the_shelf(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, ends=60)
    await shop.place("o1", {"A": 3}, purpose="vip", hold_seconds=600)
    await shop.tick_after(seconds=60)
    await shop.cancel("o1")
    assert (shop.stock("A").pools(), shop.stock("A").available) == ({}, 10)


async def test_a_pool_that_was_given_its_end_later_does_not_leak(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside("vip", 4)
    await shop.place("o1", {"A": 4}, purpose="vip", hold_seconds=600)
    await shop.set_aside_for("vip", 1, ends=60)
    await shop.tick_after(seconds=60)
    await shop.cancel("o1")
    assert (shop.stock("A").pools(), shop.stock("A").available) == ({}, 10)


async def test_a_later_movement_moves_the_end_of_a_pool_or_leaves_it(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 2, ends=60)
    await shop.set_aside("vip", 1)
    await shop.set_aside_for("vip", 1, ends=90)
    await shop.tick_after(seconds=60)
    assert shop.stock("A").pools() == {"vip@SH1": 4}
    await shop.tick_after(seconds=30)
    assert shop.stock("A").pools() == {}


async def test_a_pool_may_be_filled_again_after_its_end(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, ends=60)
    await shop.tick_after(seconds=60)
    await shop.set_aside("vip", 3)
    await shop.place("o1", {"A": 2}, purpose="vip")
    await shop.cancel("o1")
    await shop.tick_after(minutes=60)
    assert shop.stock("A").pools() == {"vip@SH1": 3}


async def test_a_pool_that_would_have_ended_already_is_refused(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    assert (await shop.set_aside_for("vip", 4, ends=60)).outcome == "pool_ended"
    assert shop.stock("A").pools() == {}


async def test_a_pool_that_only_begins_stays_without_an_end(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, begins=60)
    await shop.tick_after(seconds=60)
    await shop.tick_after(minutes=600)
    await shop.place("o1", {"A": 4}, purpose="vip")
    assert shop.line("o1", "A").pools == {"vip@SH1": 4}


@ON_VALKEY
async def test_the_step_that_ends_pools_is_bounded_and_goes_on(shop: RedisShopClient) -> None:
    await shop.receive("A", 1_000)
    fields = {"until": time_at(60)}
    for purposes in (range(128), range(128, 256)):
        commands = (shop.pool_command(StockReserved, f"p{number}", {"A": 1}, **fields) for number in purposes)
        await shop.submit_all(*commands)
    await shop.tick_after(seconds=60)
    assert len(shop.stock("A").pools()) == 56
    await shop.tick()
    assert (len(shop.stock("A").pools()), shop.stock("A").available) == (0, 1_000)
    assert await shop.index("dwells") == {}


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


async def test_the_offer_of_a_channel_follows_the_times_of_its_pools(shop: ShopClient) -> None:
    await shop.set_policy("campaign", purposes=["double-11"], pool_only=True)
    await shop.receive("A", 20)
    await shop.set_aside_for("double-11", 5, begins=60, ends=120)
    assert shop.mode("A", "campaign") == "sold_out"
    await shop.tick_after(seconds=60)
    assert (shop.mode("A", "campaign"), shop.offer("A", "campaign").quantity) == ("in_stock", 5)
    await shop.tick_after(seconds=60)
    assert shop.mode("A", "campaign") == "sold_out"


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


@ON_VALKEY
async def test_the_index_of_pools_holds_the_skus_that_have_one(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10, "C": 10})
    await shop.set_aside_for("vip", 4, ends=60)
    await shop.submit(shop.pool_command(StockReserved, "vip", {"B": 2}))
    assert set(await shop.index("pools")) == {b"A", b"B"}
    await shop.place("o1", {"A": 4, "B": 2}, purpose="vip", hold_seconds=600)
    assert set(await shop.index("pools")) == {b"A"}, "a pool that is drawn still has its end"
    found = (await shop.ledger.read_pools("", 10)).value
    assert [(row.sku, row.pools) for row in found.rows] == [("A", {"vip@SH1": (0, 0, OPENING_MS + 60_000)})]
    await shop.tick_after(seconds=60)
    assert await shop.index("pools") == {}
    await shop.cancel("o1")
    assert set(await shop.index("pools")) == {b"B"}
    found = (await shop.ledger.read_pools("B", 10, passed=True)).value
    assert (found.rows, found.more) == ((), False)


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


@ON_VALKEY
async def test_the_end_of_a_pool_is_described(shop: RedisShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_aside_for("vip", 4, begins=30, ends=60)
    await shop.tick_after(seconds=30)
    (opened,) = changes_of(shop.driver.decisions[-1], "A")
    await shop.tick_after(seconds=30)
    (ended,) = changes_of(shop.driver.decisions[-1], "A")
    assert describe_change(opened) == "a pool opened, or ended empty"
    assert describe_change(ended) == "pool vip ended: 4 back on the shelf at SH1"
