"""Exchange: units of an order go back and others are added in one step (rule 52)."""

from __future__ import annotations

import pytest

from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient


@pytest.mark.parametrize("paid", [False, True])
async def test_rule_52_units_go_back_and_others_are_added_in_one_step(shop: ShopClient, paid: bool) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 3}, paid=paid)
    before = shop.order("o1")
    assert (await shop.change("o1", remove={"A": 2}, add={"B": 4})).outcome == "changed"
    order = shop.order("o1")
    held = "committed" if paid else "reserved"
    assert (order.state, order.expires_at, order.sequence) == (before.state, before.expires_at, 2)
    assert [(line.sku, line.quantity, line.state, line.reserved, line.cancelled) for line in order.lines] == [
        ("A", 3, held, 1, 2),
        ("B", 4, held, 4, 0),
    ]
    counted = [(shop.stock(sku).locked, shop.stock(sku).committed, shop.stock(sku).available) for sku in "AB"]
    assert counted == ([(0, 1, 4), (0, 4, 1)] if paid else [(1, 0, 4), (4, 0, 1)])


async def test_rule_52_only_what_was_requested_moves(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5, "C": 5})
    await shop.place("o1", {"A": 2, "B": 2})
    await shop.place("o2", {"A": 1})
    await shop.change("o1", remove={"B": 1}, add={"C": 1})
    assert [(line.sku, line.reserved) for line in shop.order("o1").lines] == [("A", 2), ("B", 1), ("C", 1)]
    assert (shop.order("o2").sequence, shop.line("o2", "A").reserved) == (1, 1)


async def test_rule_52_if_an_added_line_fails_nothing_changes(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.set_policy(safety_threshold=2, below_threshold="suspend", dwell_seconds=60)
    await shop.place("o1", {"A": 4})
    before, offer = shop.order("o1"), shop.offer("A")
    for add, outcome in (({"B": 9}, "insufficient_stock"), ({"X": 1}, "unknown_sku"), ({"A": 1}, "channel_suspended")):
        reply = await shop.change("o1", remove={"A": 3}, add=add, by_kafka=True)
        assert (reply.outcome, reply.refused) == (outcome, (outcome,))
        assert (shop.order("o1"), shop.offer("A")) == (before, offer)
    assert (shop.stock("A").locked, shop.stock("B").locked) == (4, 0)
    assert (await shop.change("o1", remove={"A": 3}, add={"B": 1})).outcome == "changed"


async def test_rule_52_units_that_go_back_are_there_for_the_added_lines(shop: ShopClient) -> None:
    await shop.hold(4, of=5)
    assert (await shop.change("o1", add={"A": 2})).outcome == "insufficient_stock"
    assert (await shop.change("o1", remove={"A": 3}, add={"A": 4})).outcome == "changed"
    line = shop.line("o1", "A")
    assert (line.quantity, line.reserved, line.cancelled, shop.stock("A").available) == (8, 5, 3, 0)


async def test_rule_52_units_are_added_to_a_line_whatever_became_of_it(shop: ShopClient) -> None:
    await shop.receive_all({"A": 9, "B": 9, "C": 9})
    await shop.place("o1", {"A": 2, "B": 2, "C": 2, "X": 3}, accept="partial", paid=True)
    await shop.ship("o1", ("A", 2, "SH1"))
    await shop.cancel("o1", ("B", 2))
    await shop.receive("X", 9)
    await shop.change("o1", add={"A": 1, "B": 1, "X": 1})
    assert [
        (line.quantity, line.state, line.reserved, line.shipped, line.cancelled, line.reason)
        for line in shop.order("o1").lines
    ] == [
        (3, "committed", 1, 2, 0, None),
        (3, "committed", 1, 0, 2, None),
        (2, "committed", 2, 0, 0, None),
        (1, "committed", 1, 0, 0, None),
    ]
    await shop.ship("o1", ("A", 1, "SH1"), ("B", 1, "SH1"), ("C", 2, "SH1"), ("X", 1, "SH1"))
    assert shop.order("o1").state == "shipped"


async def test_rule_52_what_is_removed_is_bounded_by_what_is_open(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 2})
    assert (await shop.change("o1", remove={"A": 3}, add={"B": 1})).outcome == "more_than_open"
    assert (await shop.change("o1", remove={"B": 1}, add={"B": 1})).outcome == "not_in_order"
    assert shop.order("o1").sequence == 1


async def test_rule_52_an_order_that_has_ended_is_not_changed(shop: ShopClient) -> None:
    await shop.hold(2, of=9, hold_seconds=10)
    for order_id in ("o2", "o3"):
        await shop.place(order_id, {"A": 1})
    await shop.place("o4", {"A": 99})
    await shop.cancel("o2")
    await shop.ship("o3", ("A", 1, "SH1"))
    shop.advance(seconds=10)
    for order_id in ("o1", "o2", "o3", "o4"):
        assert (await shop.change(order_id, add={"A": 1})).outcome == "already_final"
    assert shop.stock("A").locked == 0


async def test_rule_52_an_order_of_which_nothing_is_left_ends(shop: ShopClient) -> None:
    await shop.hold(2, of=9)
    await shop.change("o1", remove={"A": 2})
    assert (shop.order("o1").state, shop.order("o1").expires_at) == ("cancelled", None)
    await shop.place("o2", {"A": 2})
    await shop.ship("o2", ("A", 1, "SH1"))
    await shop.change("o2", remove={"A": 1})
    assert shop.order("o2").state == "shipped"


async def test_rule_52_added_lines_may_be_preordered_and_removed_preorders_free_their_cap(shop: ShopClient) -> None:
    await shop.set_policy(sku="A", safety_threshold=5, below_threshold="preorder", preorder_cap=4)
    await shop.receive_all({"A": 6, "B": 9})
    await shop.place("o1", {"A": 2, "B": 1})
    assert (await shop.change("o1", add={"A": 4})).outcome == "changed"
    line = shop.line("o1", "A")
    assert (line.state, line.reserved, line.preordered, shop.mode("A")) == ("preordered", 2, 4, "sold_out")
    await shop.pay("o1")
    assert (shop.line("o1", "A").state, shop.stock("A").committed) == ("preordered", 2)
    await shop.change("o1", remove={"A": 4}, add={"B": 1})
    line = shop.line("o1", "A")
    assert (line.state, line.reserved, line.preordered, shop.stock("A").preordered) == ("committed", 2, 0, 0)
    await shop.place("o2", {"B": 1}, allow_preorder=False)
    assert (await shop.change("o2", add={"A": 1})).outcome == "insufficient_stock"


async def test_rule_52_a_vip_order_draws_its_added_lines_as_one(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.set_policy(safety_threshold=9, below_threshold="suspend")
    await shop.place("o1", {"A": 1}, priority="vip")
    assert (await shop.change("o1", add={"B": 1})).outcome == "changed"


async def test_rule_52_a_repeat_counts_once_and_another_body_is_a_conflict(shop: ShopClient) -> None:
    await shop.hold(2, of=9)
    await shop.change("o1", add={"A": 1}, id="c")
    assert (await shop.change("o1", add={"A": 1}, id="c")).result == ("changed", True)
    assert (await shop.change("o1", add={"A": 2}, id="c")).outcome == "conflict"
    assert (await shop.place("o1", {"A": 2})).result == ("reserved", True), "the placing is known by its own body"
    assert shop.line("o1", "A").quantity == 3


async def test_rule_52_a_change_that_comes_before_its_order_waits_for_it(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    assert (await shop.change("o1", remove={"A": 1}, add={"B": 1}, by_kafka=True)).outcome == "parked"
    await shop.place("o1", {"A": 2})
    assert [(line.sku, line.reserved) for line in shop.order("o1").lines] == [("A", 1), ("B", 1)]


@ON_VALKEY
async def test_rule_52_a_refusal_names_each_added_line_that_cannot_be_held(shop: RedisShopClient) -> None:
    await shop.hold(2, of=9)
    await shop.change("o1", remove={"A": 1}, add={"A": 1, "X": 1, "Y": 1}, by_kafka=True)
    decision = shop.driver.decisions[-1]
    assert decision.results[0].reasons == ((1, "unknown_sku"), (2, "unknown_sku"))
    assert decision.refused[0].detail == "not all of it can be held: add[1]: unknown_sku, add[2]: unknown_sku"
    assert not decision.effects


@ON_VALKEY
async def test_rule_52_an_order_keeps_the_limits_of_the_contract(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 1_000_000, "B": 9})
    await shop.place("o1", {"A": 999_999})
    assert (await shop.change("o1", add={"B": 1, "A": 2})).outcome == "too_large"
    assert shop.driver.decisions[-1].results[0].detail == "add[1].quantity"
    assert (await shop.change("o1", add={"B": 1, "A": 1})).outcome == "changed"


@ON_VALKEY
@pytest.mark.parametrize("limits", [LedgerLimits()])
async def test_rule_52_two_thousand_lines_are_exchanged_in_one_step(shop: RedisShopClient) -> None:
    old, new = ({f"{letter}{number:04d}": 2 for number in range(1_000)} for letter in "ab")
    await shop.receive_all(old | new)
    await shop.place("o1", old)
    assert (await shop.change("o1", remove=old, add=new)).outcome == "changed"
    assert (await shop.change("o1", add={"a0000": 1} | {f"c{number}": 1 for number in range(9)})).outcome == "too_large"
    assert [line.state for line in shop.order("o1").lines] == ["cancelled"] * 1_000 + ["reserved"] * 1_000
    counters = await shop.stored_counters("a0000"), await shop.stored_counters("b0999")
    assert counters == ({"on_hand@SH1": 2}, {"on_hand@SH1": 2, "locked@SH1": 2})
