"""Held units move away from a warehouse below zero (rule 36), where the policy of their channel has `reroute`."""

from __future__ import annotations

from msgspec import structs

from stocktide.tables.ledger.queue_places import hold_place
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LIMITS, ON_SERVERS, many_warehouses
from tests.ledger.shop_client import RedisShopClient, ShopClient, open_shop


async def _two_orders(shop: ShopClient, **policy: object) -> None:
    """o1 and the newer o2 hold 4 units each, all that is at SH1."""
    await shop.set_policy(reroute=True, **policy)
    await shop.receive_at(SH1=8)
    await shop.place("o1", {"A": 4})
    shop.advance(1)
    await shop.place("o2", {"A": 4})


def _free(shop: ShopClient, *warehouses: str) -> list[int]:
    return [shop.stock("A").free(name) for name in warehouses]


async def test_rule_36_only_what_is_missing_moves_to_the_warehouse_with_the_most_free_units(shop: ShopClient) -> None:
    await _two_orders(shop)
    await shop.receive_at(BJ1=3, GZ1=5)
    reply = await shop.adjust("lost", {"A": -3})
    assert {"shortfall", "rerouted"} <= reply.alert_types
    assert shop.line("o1", "A").warehouses == {"SH1": 1, "GZ1": 3}
    assert shop.line("o2", "A").warehouses == {"SH1": 4}
    assert _free(shop, "SH1", "BJ1", "GZ1") == [0, 3, 2]
    assert (shop.order("o1").sequence, shop.order("o2").sequence) == (2, 1)


async def test_rule_36_without_the_policy_holds_stay_at_their_warehouse(shop: ShopClient) -> None:
    await shop.set_policy("jd", reroute=True)
    await shop.hold(4, of=4)
    await shop.receive("A", 5, at="BJ1")
    reply = await shop.adjust("lost", {"A": -3})
    assert ("shortfall" in reply.alert_types, "rerouted" in reply.alert_types) == (True, False)
    assert shop.line("o1", "A").warehouses == {"SH1": 4}


async def test_rule_36_vip_orders_move_first_then_the_oldest_so_the_newest_stay_at_risk(shop: ShopClient) -> None:
    await shop.set_policy(reroute=True)
    await shop.receive("A", 6)
    for order_id, priority in (("o1", "standard"), ("o2", "standard"), ("o3", "vip")):
        await shop.place(order_id, {"A": 2}, priority=priority)
        shop.advance(1)
    await shop.receive("A", 3, at="BJ1")
    reply = await shop.adjust("lost", {"A": -6})
    places = {name: shop.line(name, "A").warehouses for name in ("o1", "o2", "o3")}
    assert places == {"o3": {"BJ1": 2}, "o1": {"BJ1": 1, "SH1": 1}, "o2": {"SH1": 2}}
    at_risk = [alert.orders for alert in reply.alerts if alert.type == "shortfall"]
    assert at_risk in ([("o2", "o1")], [()], [None]), "the model names no orders"


async def test_rule_36_each_order_that_moves_has_an_alert_and_a_row(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await _two_orders(shop)
        await shop.pay("o1")
        await shop.receive("A", 8, at="BJ1")
        reply = await shop.adjust("lost", {"A": -6})
        alerts = [each for each in reply.alerts if each.type == "rerouted"]
        named = [(each.order_id, each.channel, each.sku, each.warehouse, each.quantity) for each in alerts]
        assert named == [("o1", "tmall", "A", "SH1", 4), ("o2", "tmall", "A", "SH1", 2)]
        decision = shop.driver.decisions[-1]
        assert [effect.cause[0] for effect in decision.effects] == ["adjust", "reroute"]
        rows = {order.order_id: order.record for order in decision.orders}
        assert [(rows[name].sequence, rows[name].lines[0].warehouses) for name in ("o1", "o2")] == [
            (3, {"BJ1": 4}),
            (2, {"SH1": 2, "BJ1": 2}),
        ]
        counters = await shop.stored_counters("A")
        assert counters == {"on_hand@SH1": 2, "locked@SH1": 2, "on_hand@BJ1": 8, "committed@BJ1": 4, "locked@BJ1": 2}


async def test_rule_36_without_a_split_a_line_moves_whole_or_not_at_all(shop: ShopClient) -> None:
    await _two_orders(shop, split=False)
    await shop.receive_at(BJ1=3, GZ1=3)
    await shop.adjust("lost", {"A": -1})
    assert shop.line("o1", "A").warehouses == {"SH1": 4}, "6 are free, and not 4 in one place"
    await shop.receive("A", 1, at="GZ1")
    assert shop.line("o1", "A").warehouses == {"GZ1": 4}
    assert _free(shop, "SH1", "BJ1", "GZ1") == [3, 3, 0]


async def test_rule_36_a_line_moves_to_warehouses_alone_from_which_its_channel_sells(shop: ShopClient) -> None:
    await _two_orders(shop, warehouses=("SH1", "BJ1"))
    await shop.receive_at(GZ1=9, BJ1=1)
    await shop.adjust("lost", {"A": -3})
    assert shop.line("o1", "A").warehouses == {"SH1": 3, "BJ1": 1}
    assert _free(shop, "SH1", "BJ1", "GZ1") == [-2, 0, 9]


async def test_rule_36_counts_damage_transfers_and_shipments_move_holds(shop: ShopClient) -> None:
    await _two_orders(shop)
    await shop.pay("o2")
    await shop.receive("A", 20, at="BJ1")
    shop.advance(1)
    await shop.count({"A": 7})
    shop.advance(1)
    await shop.adjust("damages", {"A": -1})
    await shop.transfer({"A": 1}, "SH1", "BJ1")
    assert shop.line("o1", "A").warehouses == {"SH1": 1, "BJ1": 3}
    await shop.place("o3", {"A": 1}, paid=True)
    assert shop.line("o3", "A").warehouses == {"BJ1": 1}
    await shop.ship("o3", ("A", 1, "SH1"))
    assert shop.line("o1", "A").warehouses == {"BJ1": 4}
    assert (shop.stock("A").free("SH1"), shop.stock("A").on_hand) == (0, 25)


async def test_rule_36_a_later_rise_elsewhere_moves_holds_before_it_fills_the_queue(shop: ShopClient) -> None:
    await _two_orders(shop)
    await shop.set_policy("jd", warehouses=("BJ1",), below_threshold="preorder", preorder_cap=9)
    await shop.place("waits", {"A": 2}, channel="jd")
    await shop.adjust("lost", {"A": -3})
    await shop.receive("A", 1, at="BJ1")
    assert (shop.line("o1", "A").warehouses, shop.line("waits", "A").preordered) == ({"SH1": 3, "BJ1": 1}, 2)
    assert (shop.mode("A", "jd"), _free(shop, "SH1", "BJ1")) == ("preorder", [-2, 0])
    await shop.receive("A", 5, at="BJ1")
    assert shop.line("o1", "A").warehouses == {"SH1": 1, "BJ1": 3}
    assert (shop.line("waits", "A").warehouses, shop.offer("A", "jd")) == ({"BJ1": 2}, ("in_stock", 1, 0))


async def test_rule_36_a_cancellation_elsewhere_moves_holds(shop: ShopClient) -> None:
    await _two_orders(shop)
    await shop.receive("A", 2, at="BJ1")
    await shop.place("o3", {"A": 2})
    await shop.adjust("lost", {"A": -3})
    await shop.cancel("o3")
    assert (shop.line("o1", "A").warehouses, _free(shop, "SH1", "BJ1")) == ({"SH1": 2, "BJ1": 2}, [-1, 0])


async def test_a_receipt_covers_the_negative_warehouse_before_any_order_or_channel_gets_it(shop: ShopClient) -> None:
    await shop.hold(5, of=5)
    await shop.place("waits", {"A": 2}, accept="sold")
    await shop.set_policy("jd", warehouses=("SH1",))
    await shop.adjust("lost", {"A": -4})
    await shop.receive("A", 4)
    assert (shop.stock("A").free("SH1"), shop.line("waits", "A").short) == (0, 2)
    assert [shop.offer("A", name).quantity for name in ("tmall", "jd")] == [0, 0]
    await shop.receive("A", 3)
    assert (shop.line("waits", "A").reserved, shop.stock("A").available) == (2, 1)
    assert shop.offer("A", "jd") == ("in_stock", 1, 0)


async def test_rule_36_another_policy_moves_holds_and_then_fills(shop: ShopClient) -> None:
    await shop.hold(4, of=4)
    await shop.receive("A", 6, at="BJ1")
    await shop.adjust("lost", {"A": -3})
    await shop.set_policy(reroute=True)
    assert shop.line("o1", "A").warehouses == {"SH1": 1, "BJ1": 3}
    await shop.set_policy(sku="A", reroute=False)
    await shop.adjust("lost", {"A": -1})
    assert _free(shop, "SH1") == [-1]
    await shop.delete_policy(sku="A")
    assert _free(shop, "SH1", "BJ1") == [0, 2]


async def test_rule_36_units_from_pools_stay_where_they_are(shop: ShopClient) -> None:
    await shop.set_policy(reroute=True)
    await shop.receive("A", 6)
    await shop.set_aside("vip", 2)
    await shop.place("o1", {"A": 4}, purpose="vip")
    await shop.receive("A", 9, at="BJ1")
    await shop.adjust("lost", {"A": -6})
    line = shop.line("o1", "A")
    assert (line.warehouses, line.pools) == ({"SH1": 2, "BJ1": 2}, {"vip@SH1": 2})
    assert _free(shop, "SH1", "BJ1") == [-2, 7]
    await shop.cancel("o1")
    assert (shop.stock("A").reserved, _free(shop, "SH1", "BJ1")) == (2, [-2, 9])


async def test_rule_36_a_hold_whose_time_is_over_is_passed_over(shop: ShopClient) -> None:
    await shop.set_policy(reroute=True)
    await shop.receive("A", 2)
    await shop.place("o1", {"A": 1}, hold_seconds=60)
    await shop.place("o2", {"A": 1})
    await shop.receive("A", 1, at="BJ1")
    shop.advance(61)
    await shop.adjust("lost", {"A": -1})
    assert (shop.line("o1", "A").warehouses, shop.line("o2", "A").warehouses) == ({"SH1": 1}, {"BJ1": 1})


async def test_rule_31_a_shipment_from_the_old_warehouse_lowers_what_moved(shop: ShopClient) -> None:
    await _two_orders(shop)
    await shop.receive("A", 4, at="BJ1")
    await shop.adjust("lost", {"A": -4})
    assert shop.line("o1", "A").warehouses == {"BJ1": 4}
    await shop.ship("o1", ("A", 4, "SH1"))
    assert (shop.order("o1").state, shop.stock("A").committed, shop.stock("A").total("on_hand", "SH1")) == (
        *("shipped", 0),
        0,
    )
    assert (shop.line("o2", "A").warehouses, _free(shop, "SH1", "BJ1")) == ({"BJ1": 4}, [0, 0])


async def test_an_order_of_the_same_batch_moves_too(shop: ShopClient) -> None:
    await shop.set_policy(reroute=True)
    await shop.receive("A", 4)
    await shop.submit_all(
        shop.receive_command({"A": 3}, "BJ1"),
        shop.place_command("o1", {"A": 2}),
        shop.place_command("o2", {"A": 2}, priority="vip"),
        shop.count_command({"A": 2}),
    )
    assert (shop.line("o1", "A").warehouses, shop.line("o2", "A").warehouses) == ({"SH1": 2}, {"BJ1": 2})


async def _ten_hold(shop: RedisShopClient, **policy: object) -> None:
    """o0 to o9 hold a unit each, all that is at SH1."""
    await shop.set_policy(reroute=True, **policy)
    await shop.receive("A", 10)
    for number in range(10):
        await shop.place(f"o{number}", {"A": 1})
        shop.advance(1)


def _moved(shop: RedisShopClient) -> list[int]:
    return [number for number in range(10) if shop.line(f"o{number}", "A").warehouses == {"BJ1": 1}]


async def _tick_to_the_end(shop: RedisShopClient) -> int:
    ticks = 0
    while (await shop.tick()).outcome != "nothing_due":
        ticks += 1
    return ticks


async def test_what_a_batch_could_not_move_later_steps_move_before_they_fill(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=1)) as shop:
        await _ten_hold(shop)
        await shop.set_policy("jd", warehouses=("BJ1",), below_threshold="preorder", preorder_cap=9)
        await shop.receive("A", 1, at="BJ1")
        await shop.place("o", {"A": 1}, channel="jd")
        await shop.place("waits", {"A": 3}, channel="jd")
        await shop.adjust("lost", {"A": -6})
        await shop.receive("A", 8, at="BJ1")
        assert (_moved(shop), await shop.index("fills")) == ([0], {b"A": 0})
        assert (shop.line("waits", "A").reserved, shop.mode("A", "jd")) == (0, "preorder")
        assert await _tick_to_the_end(shop) == 6
        assert (_moved(shop), shop.line("waits", "A").reserved) == ([0, 1, 2, 3, 4, 5], 2)
        assert (await shop.index("fills"), _free(shop, "SH1", "BJ1")) == ({}, [0, 0])


async def test_units_that_come_one_by_one_move_one_order_each_without_looking_at_the_others(
    valkey: RedisServer,
) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=2)) as shop:
        await _ten_hold(shop)
        await shop.adjust("lost", {"A": -9})
        for moved in range(1, 7):
            await shop.receive("A", 1, at="BJ1")
            assert (_moved(shop), await shop.index("fills")) == (list(range(moved)), {})


async def test_orders_that_were_passed_over_are_looked_at_again_when_units_come(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await shop.set_policy(reroute=True, split=False)
        await shop.receive("A", 6)
        await shop.place("large", {"A": 5})
        shop.advance(1)
        await shop.place("small", {"A": 1})
        await shop.receive("A", 3, at="BJ1")
        await shop.adjust("lost", {"A": -6})
        assert (shop.line("large", "A").warehouses, shop.line("small", "A").warehouses) == ({"SH1": 5}, {"BJ1": 1})
        await shop.receive("A", 3, at="BJ1")
        assert shop.line("large", "A").warehouses == {"BJ1": 5}


async def test_changes_while_moves_are_left_over_begin_them_anew(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=4)) as shop:
        await _ten_hold(shop, split=False)
        await shop.receive("A", 20, at="BJ1")
        await shop.adjust("lost", {"A": -8})
        assert _moved(shop) == [0, 1]
        await shop.adjust("lost", {"A": -20}, at="BJ1")
        await shop.receive("A", 7, at="GZ1")
        await _tick_to_the_end(shop)
        stock = shop.stock("A")
        assert (stock.free("SH1"), stock.free("BJ1"), stock.free("GZ1")) == (0, -1, 0)
        places = [shop.line(f"o{number}", "A").warehouses for number in range(10)]
        assert places == [{"GZ1": 1}, {"BJ1": 1}] + [{"GZ1": 1}] * 6 + [{"SH1": 1}] * 2


async def test_orders_between_many_others_that_may_not_move_are_found_by_later_steps(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=3)) as shop:
        await shop.set_policy("jd", reroute=True)
        await shop.receive("A", 30)
        for number in range(30):  # all at one time: the place is told by the id
            await shop.place(f"o{number:02}", {"A": 1}, channel="jd" if number == 17 else "tmall")
        await shop.receive("A", 5, at="BJ1")
        await shop.adjust("lost", {"A": -2})
        await shop.cancel("o02")
        await _tick_to_the_end(shop)
        assert (shop.line("o17", "A").warehouses, await shop.index("fills")) == ({"BJ1": 1}, {})


async def test_a_sku_in_many_warehouses_moves_its_holds_as_others_do(valkey: RedisServer) -> None:
    with many_warehouses(1):
        async with open_shop(valkey.url, structs.replace(LIMITS, wide_rows_bytes_max=0)) as shop:
            await _two_orders(shop)
            await shop.receive_at(BJ1=3, GZ1=5)
            await shop.adjust("lost", {"A": -7})
            assert shop.line("o1", "A").warehouses == {"GZ1": 4}
            assert shop.line("o2", "A").warehouses == {"SH1": 1, "BJ1": 3}
            await shop.receive("A", 1, at="BJ1")
            assert _free(shop, "SH1", "BJ1", "GZ1") == [0, 1, 1]


@ON_SERVERS
async def test_the_places_among_holds_are_those_that_python_computes(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    await shop.place("o1", {"A": 1}, priority="vip")
    await shop.place("o2", {"A": 1})
    assert await shop.index("held:A") == {name.encode(): float(hold_place(shop.order(name))) for name in ("o1", "o2")}
    assert hold_place(shop.order("o1")) < hold_place(shop.order("o2"))


async def test_what_a_released_order_changes_of_the_search_has_a_version(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await shop.set_policy(reroute=True, split=False)
        await shop.hold(4, of=4)
        await shop.receive("A", 2, at="BJ1")
        await shop.adjust("lost", {"A": -3})  # o1 is passed over: two units cannot take its line whole
        await shop.adjust("lost", {"A": -2}, at="BJ1")
        await shop.place("o2", {"A": 2}, channel="jd", accept="sold", allow_preorder=False)
        await shop.hold_back("o2")
        before = shop.driver.decisions[-2].skus[-1].record
        assert before.rerouting is not None
        await shop.hold_back("o2", held=False)
        (row,) = shop.driver.decisions[-1].skus
        assert row.record.rerouting != before.rerouting
        assert row.record.version == before.version + 1
