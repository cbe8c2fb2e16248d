"""Forced orders, which a second person approves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient

HOUR = 60


async def suspend(shop: ShopClient) -> None:
    """Ten units, of which no channel sells any: below the threshold and inside the buffer."""
    await shop.set_policy(safety_threshold=50, below_threshold="suspend", buffer=20, share=0.1, max_listed=1)
    await shop.receive("A", 10)
    assert shop.mode("A") == "suspended"


async def test_a_forced_order_holds_nothing_until_a_second_person_approves(shop: ShopClient) -> None:
    await suspend(shop)
    reply = await shop.force("o1", {"A": 10})
    assert (reply.result, reply.alert_types) == (("parked", False), {"approval_waiting"})
    assert (shop.order("o1").state, shop.order("o1").sequence) == ("awaiting_approval", 1)
    assert (shop.line("o1", "A").state, shop.stock("A").available) == ("awaiting_approval", 10)
    shop.advance(minutes=30)
    assert (await shop.approve("o1")).result == ("reserved", False)
    order, line = shop.order("o1"), shop.line("o1", "A")
    assert (order.state, order.sequence, order.placed_at) == ("reserved", 2, shop.now)
    assert order.expires_at == shop.now + 900_000, "the hold is counted from the approval"
    assert (line.state, line.reason, line.warehouses) == ("reserved", None, {"SH1": 10})
    assert (shop.stock("A").locked, shop.stock("A").available) == (10, 0)
    await shop.pay("o1")
    await shop.ship("o1", ("A", 10, "SH1"))
    assert shop.order("o1").state == "shipped"


async def test_nobody_approves_a_request_of_their_own(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1}, by="anna")
    assert (await shop.approve("o1", by="anna")).outcome == "conflict"
    assert (shop.order("o1").state, shop.stock("A").available) == ("awaiting_approval", 10)
    assert (await shop.approve("o1", by="ben")).outcome == "reserved"
    assert (await shop.approve("o1", by="anna")).outcome == "conflict"


async def test_an_approval_counts_once_and_is_final(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1})
    assert (await shop.approve("o9")).outcome == "unknown_order"
    assert (await shop.approve("o1", by="ben")).result == ("reserved", False)
    assert (await shop.approve("o1", by="ben")).result == ("reserved", True)
    assert (await shop.approve("o1", by="carl")).outcome == "already_final"
    assert (await shop.reject("o1", by="ben")).outcome == "already_final"
    assert shop.stock("A").locked == 1
    await shop.place("o2", {"B": 1})
    assert (await shop.approve("o2")).outcome == "unknown_order", "an order that needs no approval has none"


async def test_a_rejected_request_is_a_rejected_order(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1})
    assert (await shop.reject("o1", by="ben")).result == ("cancelled", False)
    order, line = shop.order("o1"), shop.line("o1", "A")
    assert (order.state, order.sequence, line.state, line.reason) == ("rejected", 2, "rejected", "not_approved")
    assert (await shop.reject("o1", by="ben")).result == ("cancelled", True)
    assert (await shop.approve("o1", by="carl")).outcome == "already_final"
    assert (await shop.pay("o1")).outcome == "already_final"
    assert shop.stock("A").available == 10


async def test_whoever_asked_may_withdraw_the_request(shop: ShopClient) -> None:
    await shop.force("o1", {"A": 1}, by="anna")
    assert (await shop.reject("o1", by="anna")).outcome == "cancelled"


@pytest.mark.parametrize("ticks", [False, True])
async def test_a_request_ends_unapproved_when_its_time_is_over(shop: ShopClient, ticks: bool) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1})
    shop.advance(minutes=HOUR, seconds=-0.001)
    assert (await shop.tick()).outcome == "nothing_due"
    shop.advance(seconds=0.001)
    reply = await shop.tick() if ticks else await shop.approve("o1")
    assert reply.outcome == ("expired" if ticks else "already_final")
    assert reply.alert_types == {"approval_expired"}
    assert (shop.order("o1").state, shop.line("o1", "A").reason) == ("rejected", "not_approved")
    assert (await shop.approve("o1")).outcome == "already_final"
    assert (await shop.reject("o1")).outcome == "already_final"
    assert shop.stock("A").available == 10


async def test_a_forced_order_never_takes_what_is_not_there(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.receive("B", 5)
    await shop.force("o1", {"A": 6, "B": 1})
    await shop.force("o2", {"A": 6})
    await shop.force("o3", {"A": 6, "B": 1}, accept="partial")
    assert (await shop.approve("o1")).outcome == "reserved"
    assert (await shop.approve("o2")).result == ("insufficient_stock", False)
    assert (shop.order("o2").state, shop.line("o2", "A").reason) == ("rejected", "insufficient_stock")
    assert (await shop.approve("o2")).result == ("insufficient_stock", True)
    assert (await shop.approve("o3")).outcome == "partial"
    assert (shop.stock("A").available, shop.stock("B").available) == (4, 3)
    assert (await shop.place("o2", {"A": 6})).outcome == "conflict"


async def test_it_is_never_preordered_and_never_of_an_unknown_sku(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=50, below_threshold="preorder", preorder_cap=50)
    await shop.receive("A", 2)
    await shop.force("o1", {"A": 3})
    assert (await shop.approve("o1")).outcome == "insufficient_stock"
    await shop.force("o2", {"X": 1})
    assert (await shop.approve("o2")).outcome == "unknown_sku"
    await shop.force("o3", {"A": 2})
    assert (await shop.approve("o3")).outcome == "reserved"
    assert (shop.line("o3", "A").reserved, shop.stock("A").preordered) == (2, 0)


async def test_it_draws_from_positive_warehouses_of_its_channel(shop: ShopClient) -> None:
    await shop.receive("A", 3, at="SH1")
    await shop.receive("A", 4, at="BJ1")
    await shop.receive("A", 9, at="GZ1")
    await shop.set_policy(warehouses=("SH1", "BJ1"), safety_threshold=50, below_threshold="suspend")
    await shop.force("o1", {"A": 8})
    assert (await shop.approve("o1")).outcome == "insufficient_stock"
    await shop.force("o2", {"A": 6})
    await shop.approve("o2")
    assert shop.line("o2", "A").warehouses == {"BJ1": 4, "SH1": 2}


async def test_the_request_is_known_by_its_body(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1}, id="p")
    assert (await shop.force("o1", {"A": 1}, id="p")).result == ("parked", True)
    for other in ({"reason": "another"}, {"force": False}, {"hold_seconds": 60}):
        assert (await shop.force("o1", {"A": 1}, **other)).outcome == "conflict"
    await shop.approve("o1")
    assert (await shop.force("o1", {"A": 1}, id="p")).result == ("reserved", True), "it is the order now"
    await shop.force("o2", {"A": 1}, id="p")
    await shop.reject("o2")
    assert (await shop.force("o2", {"A": 1}, id="p")).result == ("parked", True), "a refusal stands"
    assert shop.order("o2").state == "rejected"


async def test_it_is_decided_with_what_it_was_placed_with(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 4}, paid=True)
    await shop.approve("o1")
    assert (shop.order("o1").state, shop.stock("A").committed) == ("paid", 4)
    await shop.force("o2", {"A": 6}, hold_seconds=60)
    await shop.approve("o2")
    assert shop.order("o2").expires_at == shop.now + 60_000
    await shop.force("o3", {"A": 6}, supersedes="o2")
    assert shop.order("o2").state == "reserved", "nothing happens before the approval"
    assert (await shop.approve("o3")).outcome == "reserved"
    assert (shop.order("o2").state, shop.stock("A").available) == ("cancelled", 0)


async def test_events_wait_for_the_approval(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.cancel("o1", id="early", by_kafka=True)
    await shop.force("o1", {"A": 1}, by_kafka=True)
    assert (await shop.pay("o1")).outcome == "unknown_order", "over HTTP there is no order yet"
    assert (await shop.pay("o1", id="p", by_kafka=True)).outcome == "parked"
    await shop.approve("o1")
    assert (shop.order("o1").state, shop.stock("A").available) == ("cancelled", 10)
    await shop.force("o2", {"A": 1})
    await shop.pay("o2", by_kafka=True)
    await shop.approve("o2")
    assert shop.order("o2").state == "paid"


@pytest.mark.parametrize("expires", [True, False])
async def test_events_that_waited_for_an_approval_that_is_not_given_are_refused(
    shop: ShopClient, expires: bool
) -> None:
    await shop.force("o1", {"A": 1})
    shop.advance(minutes=HOUR - 0.5)
    await shop.pay("o1", by_kafka=True)
    reply = await shop.tick_after(minutes=0.5) if expires else await shop.reject("o1")
    assert reply.refused == ("already_final",)
    assert "wait_failed" in reply.alert_types


async def test_a_hold_that_ended_is_taken_again_by_the_rules_of_its_channel_alone(shop: ShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 4}, hold_seconds=10)
    await shop.approve("o1")
    shop.advance(seconds=10)
    again: dict[str, Any] = {"if_expired": "take_again"}
    assert (await shop.pay("o1", **again)).outcome == "already_final"
    await shop.set_policy()
    assert (await shop.pay("o1", **again)).outcome == "paid"


@ON_VALKEY
async def test_the_index_holds_the_orders_that_wait_and_the_record_who_did_what(shop: RedisShopClient) -> None:
    await suspend(shop)
    await shop.force("o1", {"A": 1}, by="anna", reason="for the press")
    await shop.force("o2", {"A": 1})
    assert await shop.index("approvals") == {b"o1": 0, b"o2": 0}
    asked = shop.order("o1").approval
    assert asked is not None
    assert (asked.by, asked.reason, asked.state) == ("anna", "for the press", "")
    assert (asked.asked_at, asked.ends_at) == (shop.now, shop.now + 3_600_000)
    shop.advance(seconds=5)
    await shop.approve("o1", by="ben")
    await shop.reject("o2", by="carl", reason="no")
    assert not await shop.index("approvals") and not await shop.index("waiting")
    given, refused = shop.order("o1").approval, shop.order("o2").approval
    assert given is not None and refused is not None
    assert (given.state, given.decided_by, given.decided_at) == ("approved", "ben", shop.now)
    assert given.asked_in < given.decided_in == shop.driver.batch - 1
    assert (refused.state, refused.decided_by, refused.comment) == ("rejected", "carl", "no")
    assert await shop.redis.pttl(f"{shop.prefix}order:o1") == -1
    assert await shop.redis.pttl(f"{shop.prefix}order:o2") > 0, "a rejected order is kept for a time"


@ON_VALKEY
async def test_a_request_and_its_decision_may_be_in_one_batch(shop: RedisShopClient) -> None:
    await suspend(shop)
    request = shop.place_command("o1", {"A": 2}, force=True, reason="now", actor="anna")
    replies = await shop.submit_all(request, shop.approve_command("o1", by="ben"))
    assert [each.outcome for each in replies] == ["parked", "reserved"]
    assert not await shop.index("approvals")
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 2)
