"""The queue of orders that wait for stock (rules 15, 16), and orders that are already sold (rule 49)."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from stocktide.tables.ledger.queue_places import place_in_queue
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LIMITS, ON_SERVERS
from tests.ledger.shop_client import RedisShopClient, ShopClient, open_shop


async def _take_preorders(shop: ShopClient, channel: str = "tmall", **policy: Any) -> None:
    """A channel of which nothing of A is on the shelf takes preorders."""
    await shop.set_policy(channel, **({"below_threshold": "preorder", "preorder_cap": 100} | policy))
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})


async def test_rule_15_a_paid_preorder_waits_without_limit_and_is_committed_when_filled(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.place("o1", {"A": 3}, hold_seconds=60)
    await shop.pay("o1")
    assert (shop.order("o1").state, shop.line("o1", "A").state) == ("paid", "preordered")
    await shop.tick_after(minutes=100)
    await shop.receive("A", 3)
    assert (shop.line("o1", "A").state, shop.line("o1", "A").warehouses) == ("committed", {"SH1": 3})
    assert (shop.stock("A").committed, shop.stock("A").preordered, shop.stock("A").available) == (3, 0, 0)


async def test_rule_15_an_unpaid_preorder_is_filled_as_a_hold_with_its_old_deadline(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.place("o1", {"A": 3}, hold_seconds=60)
    deadline, sequence = shop.order("o1").expires_at, shop.order("o1").sequence
    shop.advance(30)
    await shop.receive("A", 3)
    assert (shop.line("o1", "A").state, shop.stock("A").locked) == ("reserved", 3)
    assert (shop.order("o1").expires_at, shop.order("o1").sequence) == (deadline, sequence + 1)
    await shop.tick_after(30)
    assert (shop.order("o1").state, shop.stock("A").available) == ("expired", 3)


async def test_rule_15_an_unpaid_preorder_expires_and_frees_its_cap(shop: ShopClient) -> None:
    await _take_preorders(shop, preorder_cap=3)
    await shop.place("o1", {"A": 3}, hold_seconds=60)
    assert shop.mode("A") == "sold_out"
    await shop.tick_after(60)
    assert shop.offer("A") == ("preorder", 0, 3)


async def test_rule_16_vip_come_first_and_then_the_oldest_over_all_channels(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await _take_preorders(shop, "jd")
    for number, channel in enumerate(("tmall", "jd", "tmall"), 1):
        await shop.place(f"o{number}", {"A": 2}, channel=channel)
    await shop.place("vip", {"A": 2}, channel="jd", priority="vip")
    await shop.receive("A", 5)
    preordered = {name: shop.line(name, "A").preordered for name in ("o1", "o2", "o3", "vip")}
    assert preordered == {"o1": 0, "o2": 1, "o3": 2, "vip": 0}
    assert (shop.line("o2", "A").state, shop.line("o2", "A").reserved) == ("preordered", 1)


async def test_rule_16_a_preorder_whose_channel_does_not_sell_from_there_is_passed_over(shop: ShopClient) -> None:
    await _take_preorders(shop, warehouses=("BJ1",))
    await _take_preorders(shop, "jd")
    await shop.place("o1", {"A": 2})
    await shop.place("o2", {"A": 2}, channel="jd")
    await shop.receive("A", 2)
    assert (shop.line("o1", "A").preordered, shop.line("o2", "A").preordered) == (2, 0)
    await shop.receive("A", 2, at="BJ1")
    assert shop.line("o1", "A").warehouses == {"BJ1": 2}


async def test_rule_16_only_units_above_the_safety_threshold_fill(shop: ShopClient) -> None:
    await _take_preorders(shop, safety_threshold=5)
    await shop.place("o1", {"A": 4})
    await shop.receive("A", 5)
    assert shop.line("o1", "A").preordered == 4
    await shop.receive("A", 3)
    assert (shop.line("o1", "A").reserved, shop.stock("A").available, shop.mode("A")) == (3, 5, "preorder")


async def test_rule_16_every_kind_of_rise_fills_the_queue(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.set_policy("jd", safety_threshold=0)
    await shop.receive("A", 3)
    await shop.place("held", {"A": 2}, channel="jd", hold_seconds=60)
    await shop.place("bought", {"A": 1}, channel="jd")
    await shop.pay("bought")
    await shop.ship("bought", ("A", 1, "SH1"))
    await shop.place("waits", {"A": 9})
    await shop.tick_after(60)  # expiry of 2 units
    assert shop.line("waits", "A").reserved == 2
    await shop.take_back("bought", ("A", 1, "SH1", "sellable"))
    assert shop.line("waits", "A").reserved == 3
    await shop.adjust("found", {"A": 1})
    assert shop.line("waits", "A").reserved == 4
    await shop.count({"A": 5})
    assert shop.line("waits", "A").reserved == 5


async def test_rule_16_a_transfer_to_a_warehouse_of_the_channel_fills_the_queue(shop: ShopClient) -> None:
    await _take_preorders(shop, warehouses=("BJ1",))
    await shop.receive("A", 4)
    await shop.place("o1", {"A": 3})
    await shop.transfer({"A": 4}, "SH1", "BJ1")
    assert shop.line("o1", "A").warehouses == {"BJ1": 3}


async def test_rule_16_a_policy_with_a_lower_threshold_fills_the_queue(shop: ShopClient) -> None:
    await _take_preorders(shop, safety_threshold=5)
    await shop.receive("A", 5)
    await shop.place("o1", {"A": 3})
    await shop.set_policy(below_threshold="preorder", preorder_cap=100, safety_threshold=1)
    assert (shop.line("o1", "A").preordered, shop.mode("A")) == (0, "in_stock")


async def test_rule_16_a_rise_fills_before_a_channel_reopens(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.place("o1", {"A": 3})
    await shop.receive("A", 3)
    assert (shop.mode("A"), shop.stock("A").available) == ("preorder", 0)
    await shop.receive("A", 1)
    assert shop.offer("A") == ("in_stock", 1, 0)


async def test_rule_16_cancelling_a_filled_order_fills_the_next_and_not_itself(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.place("o1", {"A": 3})
    await shop.place("o2", {"A": 2})
    await shop.receive("A", 2)
    await shop.cancel("o1")
    assert shop.line("o1", "A").cancelled == 3
    assert (shop.line("o2", "A").reserved, shop.stock("A").available) == (2, 0)


async def test_rule_27_the_units_of_a_superseded_order_are_for_the_one_that_replaces_it(shop: ShopClient) -> None:
    await _take_preorders(shop, "jd")
    await shop.set_policy("tmall", safety_threshold=0)
    await shop.receive("A", 3)
    await shop.place("o1", {"A": 3})
    await shop.place("waits", {"A": 2}, channel="jd")
    await shop.place("o2", {"A": 2}, supersedes="o1")
    assert (shop.line("o2", "A").reserved, shop.line("waits", "A").reserved) == (2, 1)


async def test_rule_49_a_sold_order_takes_the_shelf_and_the_rest_is_short(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend", buffer=2)
    await shop.receive("A", 3)
    reply = await shop.place("o1", {"A": 5}, accept="sold")
    assert (reply.outcome, "sold_short" in reply.alert_types) == ("reserved", True)
    assert (shop.line("o1", "A").reserved, shop.line("o1", "A").short) == (3, 2)
    assert (shop.stock("A").short, shop.stock("A").available) == (2, -2)
    await shop.pay("o1")
    assert shop.line("o1", "A").state == "committed"


async def test_rule_49_channels_read_zero_and_a_rise_fills_the_short_first(shop: ShopClient) -> None:
    await _take_preorders(shop, "jd")
    await shop.place("preorder", {"A": 2}, channel="jd", priority="vip")
    await shop.place("sold", {"A": 2}, accept="sold")
    await shop.receive("A", 1)
    assert (shop.line("sold", "A").short, shop.line("preorder", "A").preordered) == (1, 2)
    assert shop.offer("A").quantity == shop.offer("A", "jd").quantity == 0
    await shop.receive("A", 4)
    assert (shop.line("sold", "A").short, shop.line("preorder", "A").preordered) == (0, 0)
    assert shop.offer("A") == ("in_stock", 1, 0)


async def test_rule_49_the_oldest_short_is_filled_first(shop: ShopClient) -> None:
    await shop.place("o1", {"A": 2}, accept="sold")
    await shop.place("o2", {"A": 2}, accept="sold", priority="vip")
    await shop.receive("A", 3)
    assert (shop.line("o1", "A").short, shop.line("o2", "A").short) == (0, 1)


async def test_rule_49_an_unknown_sku_becomes_known_with_nothing_on_hand(shop: ShopClient) -> None:
    assert (await shop.place("o1", {"A": 2}, accept="sold")).outcome == "reserved"
    assert (shop.stock("A").on_hand, shop.stock("A").short) == (0, 2)
    assert shop.offer("A").quantity == 0


async def test_rule_49_where_the_policy_takes_preorders_the_rest_is_preordered_beyond_the_cap(
    shop: ShopClient,
) -> None:
    await _take_preorders(shop, preorder_cap=1)
    await shop.receive("A", 1)
    reply = await shop.place("o1", {"A": 4}, accept="sold")
    assert reply.alert_types >= {"preorder_cap_exceeded"}
    assert (shop.line("o1", "A").reserved, shop.line("o1", "A").preordered, shop.stock("A").short) == (1, 3, 0)
    await shop.place("o2", {"A": 1}, accept="sold", allow_preorder=False)
    assert shop.line("o2", "A").short == 1


async def test_rule_49_cancel_and_expiry_end_short_units_like_a_hold(shop: ShopClient) -> None:
    await shop.place("o1", {"A": 2}, accept="sold")
    await shop.place("o2", {"A": 2}, accept="sold", hold_seconds=60)
    await shop.cancel("o1")
    assert (shop.stock("A").short, shop.line("o1", "A").cancelled) == (2, 2)
    await shop.tick_after(60)
    assert (shop.stock("A").short, shop.order("o2").state) == (0, "expired")


async def test_rule_32_shipped_short_units_lower_short_and_on_hand(shop: ShopClient) -> None:
    await shop.place("o1", {"A": 2}, accept="sold")
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (shop.stock("A").short, shop.stock("A").on_hand, shop.order("o1").state) == (0, -2, "shipped")


def _one_at_a_time() -> Any:
    return structs.replace(LIMITS, fill_orders_max=1)


async def _ten_wait(shop: RedisShopClient) -> None:
    await _take_preorders(shop)
    for number in range(10):
        await shop.place(f"o{number}", {"A": 1})


async def test_units_that_a_batch_could_not_give_out_are_kept_from_channels_until_ticks_have(
    valkey: RedisServer,
) -> None:
    async with open_shop(valkey.url, _one_at_a_time()) as shop:
        await shop.set_policy("jd", safety_threshold=0)
        await _ten_wait(shop)
        await shop.receive("A", 13)
        assert [shop.line(f"o{number}", "A").reserved for number in range(10)] == [1] + [0] * 9
        assert shop.offer("A", "jd") == ("in_stock", 3, 0)
        assert (await shop.place("more", {"A": 4}, channel="jd")).outcome == "insufficient_stock"
        assert (await shop.place("fits", {"A": 3}, channel="jd")).outcome == "reserved"
        assert await shop.index("fills") == {b"A": 0}
        ticks = 0
        while (await shop.tick()).outcome != "nothing_due":
            ticks += 1
        assert [shop.line(f"o{number}", "A").reserved for number in range(10)] == [1] * 10
        assert (ticks, shop.stock("A").available, await shop.index("fills")) == (9, 0, {})
        assert await shop.index("queue:A\ntmall") == {}


async def test_orders_whose_time_is_over_count_towards_the_bound_of_a_fill(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=3)) as shop:
        await _take_preorders(shop)
        for number in range(10):
            await shop.place(f"o{number}", {"A": 1}, hold_seconds=60)
        await shop.place("lasting", {"A": 1})
        shop.advance(61)
        await shop.receive("A", 5)
        assert (shop.line("lasting", "A").reserved, await shop.index("fills")) == (0, {b"A": 0})
        while (await shop.tick()).outcome != "nothing_due":
            pass
        assert (shop.line("lasting", "A").reserved, shop.stock("A").available) == (1, 4)
        assert await shop.index("fills") == {}


async def test_a_fill_that_its_stock_left_behind_ends(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, _one_at_a_time()) as shop:
        await _ten_wait(shop)
        await shop.receive("A", 5)
        await shop.adjust("lost", {"A": -4})
        while (await shop.tick()).outcome != "nothing_due":
            pass
        assert (shop.stock("A").available, shop.stock("A").preordered) == (0, 9)
        assert await shop.index("fills") == {}


async def test_a_fill_that_its_orders_left_ends(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, _one_at_a_time()) as shop:
        await _take_preorders(shop)
        await shop.place("o1", {"A": 1})
        await shop.place("o2", {"A": 2})
        await shop.receive("A", 5)
        await shop.cancel("o2")
        while (await shop.tick()).outcome != "nothing_due":
            pass
        found = (await shop.ledger.read_sku("A")).value
        assert found is not None
        assert (await shop.index("fills"), found[0].filling, shop.stock("A").available) == ({}, 0, 4)


@ON_SERVERS
async def test_the_places_in_the_queue_are_those_that_python_computes(shop: RedisShopClient) -> None:
    await _take_preorders(shop)
    await shop.place("o1", {"A": 1})
    await shop.place("o2", {"A": 1}, priority="vip")
    await shop.place("o3", {"A": 1}, accept="sold", allow_preorder=False)
    expected = {
        name.encode(): float(place_in_queue(shop.order(name), shop.line(name, "A")) or 0) for name in ("o1", "o2", "o3")
    }
    assert await shop.index("queue:A\ntmall") == expected
    assert sorted(expected, key=lambda name: expected[name]) == [b"o3", b"o2", b"o1"]
