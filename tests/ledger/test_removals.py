"""Rule 51 with `removal`: a platform reports removed units as totals, one by one, or both, and each goes back once."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.ledger.shop_client import ShopClient

TOTAL, SINGLE = {"removal": "total"}, {"removal": "single"}


async def test_rule_51_a_total_cancels_what_is_not_cancelled_yet(shop: ShopClient) -> None:
    await shop.buy(5, of=10)
    await shop.cancel("o1", ("A", 1))
    assert (await shop.cancel("o1", ("A", 3), **TOTAL)).result == ("cancelled", False)
    assert (shop.line("o1", "A").cancelled, shop.stock("A").available) == (3, 8)
    # An older total, and the same one under another id.
    for units in (2, 3):
        assert (await shop.cancel("o1", ("A", units), **TOTAL)).result == ("cancelled", True)
    assert (shop.line("o1", "A").cancelled, shop.order("o1").sequence) == (3, 4)


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_rule_51_totals_and_single_removals_of_the_same_units_give_them_back_once(
    shop: ShopClient, order: tuple[int, ...]
) -> None:
    await shop.buy(5, of=10)
    reports = [(1, "r1", SINGLE), (2, "r2", SINGLE), (1, "t1", TOTAL), (3, "t3", TOTAL)]
    for number in (*order, *order):
        units, name, removal = reports[number]
        assert (await shop.cancel("o1", ("A", units), id=name, **removal)).outcome == "cancelled"
    assert (shop.line("o1", "A").cancelled, shop.stock("A").available, shop.stock("A").committed) == (3, 8, 2)


async def test_rule_51_single_removals_beyond_the_total_go_back_too(shop: ShopClient) -> None:
    await shop.buy(5, of=10)
    await shop.cancel("o1", ("A", 1), **TOTAL)
    await shop.cancel("o1", ("A", 2), **SINGLE)
    assert shop.line("o1", "A").cancelled == 2
    assert (await shop.cancel("o1", ("A", 4), **SINGLE)).outcome == "more_than_open"
    await shop.cancel("o1", ("A", 3), **SINGLE)
    assert shop.order("o1").state == "cancelled"


async def test_rule_51_a_total_never_takes_back_what_was_shipped(shop: ShopClient) -> None:
    await shop.buy(3, of=10)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (await shop.cancel("o1", ("A", 3), **TOTAL)).outcome == "cancelled"
    assert (shop.line("o1", "A").cancelled, shop.order("o1").state, shop.stock("A").available) == (1, "shipped", 8)


async def test_rule_51_removals_after_a_whole_cancellation_name_its_units(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 2, "B": 1})
    await shop.cancel("o1", **TOTAL)
    for sku, units in (("A", 1), ("A", 1), ("B", 1)):
        assert (await shop.cancel("o1", (sku, units), **SINGLE)).result == ("cancelled", False)
    assert (await shop.cancel("o1", ("A", 1), **SINGLE)).outcome == "more_than_open"
    assert (await shop.cancel("o1", ("C", 1), **TOTAL)).outcome == "not_in_order"
    assert [shop.stock(sku).available for sku in "AB"] == [5, 5]
