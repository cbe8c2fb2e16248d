"""The policy `fill` of a SKU: orders that can be filled whole go before a larger one that cannot."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LIMITS, ON_SERVERS, ON_VALKEY
from tests.ledger.model_queue import PASSED_OVER_MAX
from tests.ledger.shop_client import RedisShopClient, ShopClient, open_shop


async def wait_for(shop: ShopClient, *units: int, fill: str | None = "complete_first", **fields: Any) -> None:
    """o1, o2, … wait for units of A, of which there are none."""
    await shop.set_policy(below_threshold="preorder", preorder_cap=1_000)
    await shop.set_policy("*", "A", fill=fill)
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    for number, quantity in enumerate(units, 1):
        await shop.place(f"o{number}", {"A": quantity}, **fields)


def reserved(shop: ShopClient, count: int) -> list[int]:
    return [shop.line(f"o{number}", "A").reserved for number in range(1, count + 1)]


async def test_an_order_that_can_be_filled_whole_goes_before_a_larger_one_that_cannot(shop: ShopClient) -> None:
    await wait_for(shop, 5, 4, 2, 1)
    await shop.receive("A", 3)
    assert reserved(shop, 4) == [0, 0, 2, 1]
    assert shop.order("o1").passed_over == {"A": 2}


async def test_what_fills_no_order_whole_goes_to_the_first_in_part(shop: ShopClient) -> None:
    await wait_for(shop, 5, 4)
    await shop.receive("A", 3)
    assert (reserved(shop, 2), shop.stock("A").available) == ([3, 0], 0)
    await shop.receive("A", 2)
    assert (reserved(shop, 2), shop.order("o1").passed_over) == ([5, 0], {})


async def test_without_the_policy_the_first_is_filled_in_part(shop: ShopClient) -> None:
    for fill in (None, "in_part"):
        await wait_for(shop, fill=fill)
    await shop.place("o1", {"A": 5})
    await shop.place("o2", {"A": 2})
    await shop.receive("A", 3)
    assert reserved(shop, 2) == [3, 0]


async def test_an_order_is_passed_over_a_bounded_number_of_times(shop: ShopClient) -> None:
    await wait_for(shop, 9, *[1] * (PASSED_OVER_MAX + 1))
    for _ in range(PASSED_OVER_MAX):
        await shop.receive("A", 1)
    assert reserved(shop, 1) == [0]
    await shop.receive("A", 3)
    assert reserved(shop, PASSED_OVER_MAX + 2) == [3, *[1] * PASSED_OVER_MAX, 0]
    await shop.receive("A", 6)
    assert (reserved(shop, 1), shop.order("o1").passed_over) == ([9], {})


async def test_short_units_are_never_passed_over(shop: ShopClient) -> None:
    await wait_for(shop, 2)
    await shop.place("sold", {"A": 5}, accept="sold", allow_preorder=False)
    await shop.receive("A", 3)
    assert (shop.line("sold", "A").reserved, reserved(shop, 1)) == (3, [0])


async def test_orders_of_several_channels_are_compared_by_what_each_may_take(shop: ShopClient) -> None:
    await wait_for(shop, 5)
    await shop.set_policy("jd", below_threshold="preorder", preorder_cap=100, safety_threshold=3)
    await shop.place("jd1", {"A": 1}, channel="jd")
    await shop.place("o2", {"A": 2})
    await shop.receive("A", 3)
    assert (shop.line("jd1", "A").reserved, reserved(shop, 2)) == (0, [1, 2])


@ON_SERVERS
async def test_the_search_for_an_order_that_can_be_filled_whole_is_bounded(shop: RedisShopClient) -> None:
    await wait_for(shop, *[9] * 20, 1)
    await shop.receive("A", 1)
    assert reserved(shop, 21) == [1, *[0] * 20]


@ON_VALKEY
async def test_the_search_is_bounded_in_the_bytes_of_the_orders_that_it_reads(shop: RedisShopClient) -> None:
    await wait_for(shop, 9)
    many = {f"s{number}".ljust(128, "x"): 1 for number in range(200)}
    for number in range(2, 5):
        await shop.place(f"o{number}", {"A": 9, **many}, accept="sold")
    await shop.place("o5", {"A": 1})
    await shop.receive("A", 1)
    assert reserved(shop, 5) == [1, 0, 0, 0, 0]


async def test_a_fill_that_passes_orders_over_in_several_batches_ends(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=1)) as shop:
        await wait_for(shop, 9, 1, 1, 1)
        await shop.receive("A", 3)
        while (await shop.tick()).outcome != "nothing_due":
            pass
        assert (reserved(shop, 4), await shop.index("fills")) == ([0, 1, 1, 1], {})
