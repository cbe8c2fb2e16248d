"""Units that are set aside for a purpose, and released (rule 37); the index of pools."""

from __future__ import annotations

import pytest

from stocktide.streams.contract.events import StockReleased, StockReserved
from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, ShopClient


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
