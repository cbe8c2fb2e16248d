"""Every row of the table of counters: what an event does to on_hand, committed, physical, locked and available."""

from __future__ import annotations

from tests.ledger.drivers import SkuCounters
from tests.ledger.shop_client import ShopClient


def counters(stock: SkuCounters) -> tuple[int, int, int, int, int]:
    """In the order of the table."""
    return stock.on_hand, stock.committed, stock.physical, stock.locked, stock.available


async def test_receiving_a_hundred_raises_on_hand_physical_and_available(shop: ShopClient) -> None:
    told = await shop.receive("A", 100)
    assert told.outcome == "received"
    assert counters(shop.stock("A")) == (100, 0, 100, 0, 100)


async def test_placing_an_order_locks_a_unit(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    told = await shop.place("o1", {"A": 1})
    assert told.outcome == "reserved"
    assert counters(shop.stock("A")) == (100, 0, 100, 1, 99)


async def test_cancelling_an_unpaid_order_unlocks_it(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    told = await shop.cancel("o1")
    assert told.outcome == "cancelled"
    assert counters(shop.stock("A")) == (100, 0, 100, 0, 100)


async def test_an_expired_hold_unlocks_it(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1}, hold_seconds=60)
    shop.later(seconds=60)
    told = await shop.tick()
    assert told.outcome == "expired"
    assert shop.order("o1").state == "expired"
    assert counters(shop.stock("A")) == (100, 0, 100, 0, 100)


async def test_paying_turns_the_lock_into_a_commitment_and_leaves_available_alone(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    told = await shop.pay("o1")
    assert told.outcome == "paid"
    assert counters(shop.stock("A")) == (100, 1, 99, 0, 99)


async def test_shipping_a_paid_unit_lowers_on_hand_and_committed(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    await shop.pay("o1")
    told = await shop.ship("o1", ("A", 1, "SH1"))
    assert told.outcome == "shipped"
    assert counters(shop.stock("A")) == (99, 0, 99, 0, 99)


async def test_cancelling_a_paid_order_before_shipping_makes_the_unit_available(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    await shop.pay("o1")
    told = await shop.cancel("o1")
    assert told.outcome == "cancelled"
    assert counters(shop.stock("A")) == (100, 0, 100, 0, 100)


async def test_a_return_that_is_fit_for_sale_raises_on_hand(shop: ShopClient) -> None:
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    await shop.pay("o1")
    await shop.ship("o1", ("A", 1, "SH1"))
    told = await shop.take_back("o1", ("A", 1, "SH1"))
    assert told.outcome == "returned"
    assert counters(shop.stock("A")) == (100, 0, 100, 0, 100)


async def test_the_version_grows_by_one_with_each_change(shop: ShopClient) -> None:
    """The ledger's till asserts it for every effect; here it is seen to have grown at all."""
    await shop.subscribe("tmall")
    before = shop.till.version("A")
    await shop.receive("A", 100)
    await shop.place("o1", {"A": 1})
    await shop.pay("o1")
    assert shop.till.version("A") - before in {0, 3}


async def test_a_batch_decides_its_commands_one_after_the_other(shop: ShopClient) -> None:
    await shop.receive("A", 3)
    orders = [shop.placed(f"o{number}", {"A": 2}) for number in range(3)]
    told = await shop.batch(*orders)
    assert [answer.outcome for answer in told] == ["reserved", "insufficient_stock", "insufficient_stock"]
    assert shop.stock("A").available == 1
