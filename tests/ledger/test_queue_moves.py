"""What moves in the queue when its orders are cancelled, expire or change, and when stock comes (rules 15 to 52)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.ledger.shop_client import ShopClient

WAREHOUSES = ("SH1", "BJ1", "GZ1")
# By channel: its warehouses and its safety threshold.
CHANNELS: dict[str, tuple[tuple[str, ...], int]] = {
    "tmall": (WAREHOUSES, 0),
    "jd": (("BJ1",), 2),
    "own": (("SH1", "GZ1"), 5),
}


async def take_preorders(shop: ShopClient, channel: str = "tmall", **policy: Any) -> None:
    await shop.set_policy(channel, **({"below_threshold": "preorder", "preorder_cap": 100} | policy))


async def two_wait(shop: ShopClient) -> None:
    """o1 waits for 2 of 5 units of A, and o2, behind it, for 4."""
    await take_preorders(shop)
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    await shop.place("o1", {"A": 5})
    await shop.place("o2", {"A": 4})
    await shop.receive("A", 3)
    assert (shop.line("o1", "A").reserved, shop.line("o2", "A").reserved) == (3, 0)


@pytest.mark.parametrize("is_paid", [False, True])
async def test_cancelling_an_order_that_was_filled_in_part_fills_the_next_and_gives_nothing_to_itself(
    shop: ShopClient, is_paid: bool
) -> None:
    await two_wait(shop)
    if is_paid:
        await shop.pay("o1")
    await shop.cancel("o1")
    line = shop.line("o1", "A")
    assert (line.reserved, line.preordered, line.cancelled, line.warehouses) == (0, 0, 5, {})
    assert (shop.line("o2", "A").reserved, shop.line("o2", "A").preordered) == (3, 1)
    assert (shop.stock("A").available, shop.stock("A").preordered) == (0, 1)


async def test_the_expiry_of_an_order_that_was_filled_in_part_fills_the_next_and_frees_its_cap(
    shop: ShopClient,
) -> None:
    await take_preorders(shop, preorder_cap=6)
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    await shop.place("o1", {"A": 5}, hold_seconds=60)
    await shop.place("o2", {"A": 1})
    await shop.receive("A", 3)
    assert shop.offer("A") == ("preorder", 0, 3)
    await shop.tick_after(60)
    assert (shop.order("o1").state, shop.line("o1", "A").reserved) == ("expired", 0)
    assert (shop.line("o2", "A").reserved, shop.offer("A")) == (1, ("in_stock", 2, 0))


async def test_cancelling_some_units_of_an_order_that_waits_takes_none_of_them_back(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.cancel("o1", ("A", 3))
    line = shop.line("o1", "A")
    assert (line.reserved, line.preordered, line.cancelled) == (2, 0, 3)
    assert shop.line("o2", "A").reserved == 1


async def test_cancelling_short_units_fills_preorders_of_the_channels_that_can_have_the_units(
    shop: ShopClient,
) -> None:
    await shop.set_policy("sold", warehouses=("GZ1",))
    await take_preorders(shop, warehouses=("SH1",))
    await shop.receive_at(SH1=1, GZ1=1)
    await shop.adjust("lost", {"A": -1})
    await shop.place("short", {"A": 4}, channel="sold", accept="sold")
    await shop.place("waits", {"A": 2})
    await shop.receive("A", 2)
    assert (shop.line("short", "A").short, shop.line("waits", "A").preordered) == (3, 2)
    await shop.cancel("short")
    assert (shop.line("short", "A").cancelled, shop.line("waits", "A").reserved) == (4, 2)


async def test_an_exchange_of_an_order_that_waits_moves_only_what_was_requested(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.receive("B", 5)
    await shop.receive("C", 5)
    await shop.place("o3", {"A": 2, "B": 2})
    await shop.change("o3", {"B": 1}, {"C": 1})
    lines = {line.sku: (line.quantity, line.reserved, line.preordered) for line in shop.order("o3").lines}
    assert lines == {"A": (2, 0, 2), "B": (2, 1, 0), "C": (1, 1, 0)}
    assert (shop.line("o1", "A").preordered, shop.line("o2", "A").preordered) == (2, 4)
    assert (shop.stock("B").available, shop.stock("C").available, shop.stock("A").preordered) == (4, 4, 8)


async def test_units_that_an_exchange_removes_fill_the_next_order_and_not_the_same_one(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.receive("B", 1)
    await shop.change("o1", {"A": 4}, {"B": 1})
    line = shop.line("o1", "A")
    assert (line.reserved, line.preordered, line.cancelled) == (1, 0, 4)
    assert (shop.line("o2", "A").reserved, shop.stock("A").available) == (2, 0)


def could_be_filled(shop: ShopClient, orders: list[str]) -> list[str]:
    """The orders that wait although units above the threshold of their channel are free, by the numbers alone."""
    found = []
    for order_id in orders:
        order = shop.order(order_id)
        warehouses, threshold = CHANNELS[order.channel]
        free = [shop.stock("A").free(name) for name in warehouses]
        if order.lines[0].preordered and sum(free) > threshold and max(free) > 0:
            found.append(order_id)
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_a_restock_leaves_no_order_behind_that_could_be_filled(shop: ShopClient, seed: int) -> None:
    rng, orders = random.Random(seed), [f"o{number}" for number in range(24)]
    await shop.receive_at(**dict.fromkeys(WAREHOUSES, 1))
    for name in WAREHOUSES:
        await shop.adjust("lost", {"A": -1}, at=name)
    for channel, (warehouses, threshold) in CHANNELS.items():
        await take_preorders(shop, channel, warehouses=warehouses, safety_threshold=threshold)
    for order_id in orders:
        priority = rng.choice(("standard", "standard", "vip"))
        units = {"A": rng.randint(1, 4)}
        await shop.place(order_id, units, channel=rng.choice(list(CHANNELS)), priority=priority)
    filled = 0
    for _ in range(20):
        await shop.receive("A", rng.randint(1, 5), at=rng.choice(WAREHOUSES))
        assert not could_be_filled(shop, orders)
        filled = sum(shop.line(order_id, "A").reserved for order_id in orders)
    assert filled > 20
