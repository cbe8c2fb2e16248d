"""Rule 52 with `additions`: a platform reports what it sold in all, and what the order lacks of it is held as sold."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.ledger.shop_client import ShopClient

TOTAL = {"additions": "total"}


async def test_rule_52_a_total_adds_what_the_order_lacks_as_sold(shop: ShopClient) -> None:
    await shop.buy(2, of=5)
    reply = await shop.change("o1", add={"A": 8, "B": 1}, **TOTAL)
    assert (reply.result, reply.alert_types) == (("changed", False), {"sold_short"})
    line, new = shop.line("o1", "A"), shop.line("o1", "B")
    assert (line.quantity, line.reserved, line.short, line.state) == (8, 5, 3, "committed")
    assert (new.quantity, new.short, new.state) == (1, 1, "committed")
    assert (shop.stock("A").committed, shop.stock("A").available) == (5, -3)
    before = shop.order("o1").sequence
    # The same total under another id, and older ones.
    for add in ({"A": 8}, {"A": 2, "B": 1}):
        assert (await shop.change("o1", add=add, **TOTAL)).result == ("changed", True)
    assert shop.order("o1").sequence == before


async def test_rule_52_a_total_is_preordered_where_the_policy_and_the_order_allow_it(shop: ShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=1)
    await shop.hold(2, of=3)
    await shop.place("o2", {"A": 1}, allow_preorder=False)
    reply = await shop.change("o1", add={"A": 5}, **TOTAL)
    assert reply.alert_types == {"preorder_cap_exceeded"}
    await shop.change("o2", add={"A": 2}, **TOTAL)
    assert [(shop.line(name, "A").preordered, shop.line(name, "A").short) for name in ("o1", "o2")] == [(3, 0), (0, 1)]
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 3)


async def test_rule_52_no_limit_of_unpaid_units_holds_for_a_total(shop: ShopClient) -> None:
    await shop.set_policy(held_units_max=3)
    await shop.hold(2, of=9)
    assert (await shop.change("o1", add={"A": 2})).outcome == "too_many_held"
    assert (await shop.change("o1", add={"A": 7}, **TOTAL)).outcome == "changed"
    assert shop.line("o1", "A").reserved == 7


async def test_rule_52_a_refused_line_lacks_all_its_units(shop: ShopClient) -> None:
    await shop.receive_all({"A": 2, "B": 1})
    assert (await shop.place("o1", {"A": 1, "B": 3}, accept="partial")).outcome == "partial"
    for _ in range(2):
        await shop.change("o1", add={"A": 1, "B": 4}, **TOTAL)
    line = shop.line("o1", "B")
    assert (line.quantity, line.reserved, line.short, line.reason) == (4, 1, 3, None)


async def test_rule_52_a_total_of_an_order_that_was_cancelled_or_has_expired_is_refused_if_it_adds(
    shop: ShopClient,
) -> None:
    await shop.hold(2, of=9)
    await shop.cancel("o1")
    await shop.place("o2", {"A": 2}, hold_seconds=10)
    await shop.place("o3", {"A": 2}, hold_seconds=20)
    await shop.cancel("o3", ("A", 2))
    await shop.place("o4", {"A": 2}, paid=True)
    await shop.cancel("o4", ("A", 2))
    await shop.cancel("o4")  # as a whole: nothing opens it again
    await shop.tick_after(30)
    for order_id in ("o1", "o2", "o3", "o4"):
        assert (await shop.change(order_id, add={"A": 2}, **TOTAL)).result == ("changed", True)
        assert (await shop.change(order_id, add={"A": 3}, **TOTAL)).outcome == "already_final"
    assert shop.stock("A").available == 9


async def test_rule_52_a_total_opens_an_order_again_of_which_nothing_was_left(shop: ShopClient) -> None:
    await shop.receive("A", 9)
    await shop.place("shipped", {"A": 1}, paid=True)
    await shop.ship("shipped", ("A", 1, "SH1"))
    await shop.place("paid", {"A": 1}, paid=True)
    await shop.cancel("paid", ("A", 1), removal="single")
    await shop.place("unpaid", {"A": 1}, hold_seconds=60)
    await shop.cancel("unpaid", ("A", 1))
    for order_id in ("shipped", "paid", "unpaid"):
        assert (await shop.change(order_id, add={"A": 2})).outcome == "already_final"
        assert (await shop.change(order_id, add={"A": 3, "B": 1}, **TOTAL)).result == ("changed", False)
        assert (shop.line(order_id, "A").reserved, shop.line(order_id, "B").short) == (2, 1)
    assert [shop.order(name).state for name in ("shipped", "paid", "unpaid")] == ["paid", "paid", "reserved"]
    assert (shop.stock("A").committed, shop.stock("A").locked, shop.stock("A").available) == (4, 2, 2)
    await shop.ship("shipped", ("A", 2, "SH1"), ("B", 1, "SH1"))
    await shop.cancel("paid")
    await shop.tick_after(61)
    assert [shop.order(name).state for name in ("shipped", "paid", "unpaid")] == ["shipped", "cancelled", "expired"]
    assert (shop.stock("A").committed, shop.stock("A").available) == (0, 6)


async def test_rule_43_a_total_waits_for_its_order(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    assert (await shop.change("o1", add={"A": 3}, by_kafka=True, **TOTAL)).outcome == "parked"
    await shop.place("o1", {"A": 2})
    assert (shop.line("o1", "A").quantity, shop.line("o1", "A").reserved) == (3, 3)


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_rule_52_totals_in_any_order_with_removals_between_make_one_order(
    shop: ShopClient, order: tuple[int, ...]
) -> None:
    await shop.receive_all({"A": 9, "B": 1})

    async def update(number: int, lines: dict[str, int]) -> None:
        placed = await shop.place("o1", lines, accept="sold", if_placed="keep", by_kafka=True)
        added = await shop.change("o1", add=lines, id=f"c{number}", by_kafka=True, **TOTAL)
        assert placed.refused == added.refused == ()

    for number in (*order, *order):
        if number < 3:
            await update(number, ({"A": 2}, {"A": 3}, {"A": 4, "B": 2})[number])
        else:
            assert (await shop.cancel("o1", ("A", 1), id="r", by_kafka=True, removal="single")).refused == ()
    line, other = shop.line("o1", "A"), shop.line("o1", "B")
    assert (line.quantity, line.cancelled, line.reserved) == (4, 1, 3)
    assert (other.quantity, other.reserved, other.short) == (2, 1, 1)
    assert (shop.stock("A").available, shop.stock("B").available) == (6, -1)


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_rule_52_an_exchange_of_all_units_makes_one_order_whatever_comes_first(
    shop: ShopClient, order: tuple[int, ...]
) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 2}, accept="sold", paid=True)
    reports = [
        lambda: shop.cancel("o1", ("A", 2), id="r", removal="single"),
        lambda: shop.cancel("o1", ("A", 2), id="t", removal="total"),
        lambda: shop.change("o1", add={"A": 2}, id="before", **TOTAL),
        lambda: shop.change("o1", add={"A": 2, "B": 2}, id="after", **TOTAL),
    ]
    for number in (*order, *order):
        assert (await reports[number]()).refused == ()
    assert (shop.order("o1").state, shop.line("o1", "A").cancelled, shop.line("o1", "B").reserved) == ("paid", 2, 2)
    assert (shop.stock("A").available, shop.stock("B").available) == (5, 3)


async def test_rule_20_another_body_keeps_an_order_only_of_its_channel_and_id(shop: ShopClient) -> None:
    await shop.hold(2, of=9)
    more = {"A": 5}
    assert (await shop.place("o1", more)).outcome == "conflict"
    assert (await shop.place("o1", more, if_placed="keep")).result == ("reserved", True)
    assert (await shop.place("o1", more, channel="jd", if_placed="keep")).outcome == "conflict"
    await shop.pay("o1", id="paid")
    assert (await shop.place("o1", more, id="paid", if_placed="keep")).outcome == "conflict"
    assert shop.line("o1", "A").quantity == 2
