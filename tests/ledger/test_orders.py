"""Placing, repeating, refusing, superseding orders (rules 18 to 22 and 27)."""

from __future__ import annotations

import pytest

from tests.ledger.shop_client import ShopClient


async def test_rule_18_the_answer_keeps_the_order_in_which_skus_were_first_seen(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5, "C": 5})
    await shop.place("o1", {"C": 1, "A": 1, "B": 1})
    assert [line.sku for line in shop.order("o1").lines] == ["C", "A", "B"]


async def test_rule_19_a_repeat_has_the_same_body_and_any_id_and_time(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 1, "B": 2})
    shop.advance(seconds=5)
    assert (await shop.place("o1", {"B": 2, "A": 1}, id="another")).result == ("reserved", True)
    assert shop.stock("A").locked == 1


async def test_rule_20_a_refusal_stands_even_after_a_restock(shop: ShopClient) -> None:
    await shop.receive("A", 1)
    assert (await shop.place("o1", {"A": 2})).outcome == "insufficient_stock"
    await shop.receive("A", 10)
    assert (await shop.place("o1", {"A": 2})).result == ("insufficient_stock", True)
    assert shop.order("o1").state == "rejected"
    assert (await shop.place("o2", {"A": 2})).outcome == "reserved", "a new try is a new order"


async def test_rule_20_the_same_order_id_with_another_body_or_channel_is_a_conflict(shop: ShopClient) -> None:
    await shop.hold(2, of=10)
    assert (await shop.place("o1", {"A": 3})).outcome == "conflict"
    assert (await shop.place("o1", {"A": 2}, channel="jd")).outcome == "conflict"
    assert shop.stock("A").locked == 2


async def test_rule_21_a_basket_is_all_or_nothing_and_every_refused_line_has_a_reason(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 1})
    reply = await shop.place("o1", {"A": 1, "B": 2, "X": 1})
    assert reply.outcome == "insufficient_stock", "the reason of the first line that fails"
    order = shop.order("o1")
    assert [line.state for line in order.lines] == ["rejected"] * 3
    assert [line.reason for line in order.lines] == [None, "insufficient_stock", "unknown_sku"]
    assert (order.state, order.expires_at) == ("rejected", None)
    assert shop.stock("A").locked == shop.stock("B").locked == 0


async def test_rule_21_partial_holds_what_it_can_and_never_cuts_a_line(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 1})
    assert (await shop.place("o1", {"A": 5, "B": 2}, accept="partial")).outcome == "partial"
    assert [line.state for line in shop.order("o1").lines] == ["reserved", "rejected"]
    assert shop.line("o1", "B").reason == "insufficient_stock"
    assert (shop.stock("A").locked, shop.stock("B").locked) == (5, 0)


async def test_rule_21_partial_that_holds_nothing_is_refused(shop: ShopClient) -> None:
    await shop.receive("A", 1)
    assert (await shop.place("o1", {"A": 2, "X": 1}, accept="partial")).outcome == "insufficient_stock"
    assert shop.order("o1").state == "rejected"


async def test_rule_21_partial_that_holds_everything_is_reserved(shop: ShopClient) -> None:
    await shop.receive("A", 2)
    assert (await shop.place("o1", {"A": 2}, accept="partial")).outcome == "reserved"


async def test_rule_22_an_event_repeated_by_id_counts_once(shop: ShopClient) -> None:
    await shop.hold(2, of=9)
    await shop.pay("o1", id="p")
    assert (await shop.pay("o1", id="p")).result == ("paid", True)
    await shop.ship("o1", ("A", 1, "SH1"), id="s")
    assert (await shop.ship("o1", ("A", 1, "SH1"), id="s")).result == ("shipped", True)
    assert shop.line("o1", "A").shipped == 1


async def test_rule_22_the_same_id_with_another_type_or_body_is_a_conflict(shop: ShopClient) -> None:
    await shop.hold(2, of=9)
    await shop.pay("o1", id="e")
    assert (await shop.cancel("o1", id="e")).outcome == "conflict"
    await shop.ship("o1", ("A", 1, "SH1"), id="s")
    assert (await shop.ship("o1", ("A", 2, "SH1"), id="s")).outcome == "conflict"
    assert (await shop.pay("o1", id="o1-placed")).outcome == "conflict", "the placing's id is taken too"


async def test_rule_22_event_ids_are_scoped_to_the_order(shop: ShopClient) -> None:
    await shop.hold(1, of=9)
    await shop.place("o2", {"A": 1})
    assert (await shop.pay("o1", id="e")).outcome == "paid"
    assert (await shop.cancel("o2", id="e")).outcome == "cancelled"


async def _extend_often(shop: ShopClient, times: int) -> None:
    """Ten units of A, two of which are held by an order that was extended so often, each time for longer."""
    await shop.hold(2, of=10)
    for number in range(times):
        assert (await shop.extend("o1", 1_000 + number, id=f"x{number}")).outcome == "extended"


async def test_rule_42_the_sixty_fifth_extension_of_an_order_is_refused(shop: ShopClient) -> None:
    await _extend_often(shop, 64)
    reply = await shop.extend("o1", 9_000, id="one-too-many", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("too_many_events", ("too_many_events",))
    assert shop.order("o1").expires_at == shop.now + 1_063_000
    assert (await shop.extend("o1", 1_000, id="x0")).replayed, "none was forgotten"
    assert (await shop.extend("o1", 2_000, id="x63")).outcome == "conflict"


@pytest.mark.parametrize("times", [63, 64])
async def test_rule_42_an_order_with_all_its_extensions_can_be_completed(shop: ShopClient, times: int) -> None:
    await _extend_often(shop, times)
    assert (await shop.pay("o1", id="p")).outcome == "paid"
    assert (await shop.ship("o1", ("A", 2, "SH1"), id="s")).outcome == "shipped"
    assert (await shop.take_back("o1", ("A", 1, "SH1"), id="r")).outcome == "returned"
    assert (shop.order("o1").state, shop.stock("A").on_hand) == ("shipped", 9)
    assert (await shop.ship("o1", ("A", 2, "SH1"), id="s")).replayed
    assert (await shop.take_back("o1", ("A", 2, "SH1"), id="r")).outcome == "conflict"
    assert (await shop.cancel("o1", id="p")).outcome == "conflict"


async def test_rule_42_an_order_with_all_its_extensions_can_be_cancelled(shop: ShopClient) -> None:
    await _extend_often(shop, 64)
    assert (await shop.cancel("o1")).outcome == "cancelled"
    assert shop.stock("A").available == 10


async def test_rule_42_an_extension_that_changes_nothing_is_not_counted(shop: ShopClient) -> None:
    await _extend_often(shop, 60)
    for number in range(100):
        assert (await shop.extend("o1", 5, id=f"none{number}")).outcome == "extended"
    assert (await shop.extend("o1", 5, id="none99")).replayed
    assert (await shop.extend("o1", 6, id="none99")).outcome == "conflict"
    for number in range(4):
        assert (await shop.extend("o1", 2_000 + number)).outcome == "extended"
    assert (await shop.extend("o1", 5)).outcome == "extended", "nothing changes, nothing is counted"
    assert (await shop.extend("o1", 3_000)).outcome == "too_many_events"


async def test_rule_42_every_parcel_of_an_order_counts_and_each_counts_once(shop: ShopClient) -> None:
    await shop.hold(150, of=200)
    await shop.pay("o1", id="p")
    for again in (False, True):
        for number in range(150):
            assert (await shop.ship("o1", ("A", 1, "SH1"), id=f"parcel-{number}")).result == ("shipped", again)
    assert (await shop.ship("o1", ("A", 2, "SH1"), id="parcel-149")).outcome == "conflict"
    assert (shop.order("o1").state, shop.stock("A").on_hand) == ("shipped", 50)


async def test_rule_27_the_units_of_a_superseded_hold_go_to_the_new_order(shop: ShopClient) -> None:
    await shop.hold(3, of=3)
    assert (await shop.place("o2", {"A": 3}, supersedes="o1")).outcome == "reserved"
    assert (shop.order("o1").state, shop.stock("A").locked) == ("cancelled", 3)


async def test_rule_27_a_refused_order_supersedes_nothing(shop: ShopClient) -> None:
    await shop.hold(3, of=3)
    assert (await shop.place("o2", {"A": 4}, supersedes="o1")).outcome == "insufficient_stock"
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 3)
    assert shop.mode("A") == "sold_out"


async def test_rule_27_unknown_cancelled_and_expired_orders_are_ignored(shop: ShopClient) -> None:
    await shop.hold(1, of=9)
    await shop.cancel("o1")
    await shop.place("o2", {"A": 1}, hold_seconds=1)
    shop.advance(seconds=1)
    for number, old in enumerate(["unknown", "o1", "o2"]):
        assert (await shop.place(f"n{number}", {"A": 1}, supersedes=old)).outcome == "reserved"
    assert shop.order("o2").state == "expired"
    assert shop.stock("A").locked == 3


async def test_rule_27_a_paid_order_cannot_be_superseded(shop: ShopClient) -> None:
    await shop.buy(1, of=9)
    assert (await shop.place("o2", {"A": 1}, supersedes="o1")).outcome == "already_final"
    assert shop.stock("A").locked == 0
    assert shop.order("o1").state == "paid"


async def test_rule_27_an_order_of_another_channel_cannot_be_superseded(shop: ShopClient) -> None:
    await shop.hold(1, of=9)
    assert (await shop.place("o2", {"A": 1}, channel="jd", supersedes="o1")).outcome == "conflict"
    assert shop.order("o1").state == "reserved"


async def test_rule_27_superseding_may_bring_a_channel_back_before_it_is_decided(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend")
    await shop.hold(3, of=8)
    assert shop.mode("A") == "suspended"
    assert (await shop.place("o2", {"A": 2}, supersedes="o1")).outcome == "reserved"
    assert shop.offer("A") == ("in_stock", 6, 0)


async def test_an_order_takes_one_warehouse_that_can_fill_it_with_the_most_free_stock(shop: ShopClient) -> None:
    await shop.receive_at(SH1=4, BJ1=9, GZ1=6)
    await shop.place("o1", {"A": 5})
    assert shop.line("o1", "A").warehouses == {"BJ1": 5}


async def test_of_two_warehouses_with_as_much_the_one_that_appeared_first_is_taken(shop: ShopClient) -> None:
    await shop.receive_at(SH1=5, BJ1=5)
    await shop.place("o1", {"A": 5})
    assert shop.line("o1", "A").warehouses == {"SH1": 5}


async def test_a_line_is_split_only_where_no_warehouse_can_fill_it_alone(shop: ShopClient) -> None:
    await shop.receive_at(SH1=2, BJ1=5, GZ1=3)
    await shop.place("o1", {"A": 9})
    assert shop.line("o1", "A").warehouses == {"BJ1": 5, "GZ1": 3, "SH1": 1}


async def test_rule_27_a_refused_superseding_order_still_ends_a_dwell_that_is_over(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend", dwell_seconds=60)
    await shop.receive_all({"A": 6, "B": 9})
    await shop.place("old", {"B": 1})
    await shop.place("o1", {"A": 1})
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    assert (await shop.place("new", {"A": 99}, supersedes="old")).outcome == "insufficient_stock"
    assert shop.order("old").state == "reserved"
    assert shop.mode("A") == "in_stock"


async def test_rule_27_a_refusal_for_the_superseded_order_by_kafka_is_dead_lettered(shop: ShopClient) -> None:
    await shop.buy(1, of=9)
    assert (await shop.place("o2", {"A": 1}, supersedes="o1", by_kafka=True)).refused == ("already_final",)
    assert [line.reason for line in shop.order("o2").lines] == ["already_final"]
