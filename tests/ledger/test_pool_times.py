"""Pools that begin and end by time."""

from __future__ import annotations

from stocktide.ops.explain.describe import describe_change
from stocktide.streams.contract.events import StockReserved
from stocktide.tables.history.sku_history import changes_of
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient, time_at


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


async def test_the_offer_of_a_channel_follows_the_times_of_its_pools(shop: ShopClient) -> None:
    await shop.set_policy("campaign", purposes=["double-11"], pool_only=True)
    await shop.receive("A", 20)
    await shop.set_aside_for("double-11", 5, begins=60, ends=120)
    assert shop.mode("A", "campaign") == "sold_out"
    await shop.tick_after(seconds=60)
    assert (shop.mode("A", "campaign"), shop.offer("A", "campaign").quantity) == ("in_stock", 5)
    await shop.tick_after(seconds=60)
    assert shop.mode("A", "campaign") == "sold_out"


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


@ON_VALKEY
async def test_a_sku_remembers_a_bounded_number_of_pools_that_have_ended(shop: RedisShopClient) -> None:
    await shop.receive("A", 1_000)
    for campaign in range(3):
        for number in range(120):
            await shop.set_aside_for(f"campaign-{campaign}-{number}", 1, ends=shop.seconds + 60)
        while (await shop.tick_after(seconds=60)).outcome != "nothing_due":
            pass
    read = (await shop.ledger.read_sku("A")).value
    assert read is not None
    assert len(read[0].pool_times) == 256 and shop.stock("A").available == 1_000
    assert {"campaign-2-119@SH1", "campaign-1-0@SH1"} <= read[0].pool_times.keys(), "those that ended last"
