"""A payment that takes an expired order again (rule 53)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient

TAKE_AGAIN: dict[str, Any] = {"if_expired": "take_again"}


async def expire(shop: ShopClient, units: int = 4, of: int = 10, **fields: Any) -> None:
    """An order o1 of A whose hold has ended."""
    await shop.hold(units, of=of, hold_seconds=10, **fields)
    shop.advance(seconds=10)


@pytest.mark.parametrize("ticks", [False, True])
async def test_rule_53_an_expired_order_is_held_again_and_paid_in_one_step(shop: ShopClient, ticks: bool) -> None:
    await expire(shop)
    if ticks:
        await shop.tick()
    assert (await shop.pay("o1", id="p", **TAKE_AGAIN)).result == ("paid", False)
    order, line, stock = shop.order("o1"), shop.line("o1", "A"), shop.stock("A")
    assert (order.state, order.expires_at, order.sequence) == ("paid", None, 3), "placed, expired, paid"
    assert (line.state, line.reserved, line.warehouses) == ("committed", 4, {"SH1": 4})
    assert (stock.locked, stock.committed, stock.available) == (0, 4, 6)
    assert (await shop.pay("o1", id="p", **TAKE_AGAIN)).result == ("paid", True)
    await shop.ship("o1", ("A", 4, "SH1"))
    assert shop.order("o1").state == "shipped"


async def test_rule_53_without_the_option_a_late_payment_is_refused_and_may_be_sent_again_with_it(
    shop: ShopClient,
) -> None:
    await expire(shop)
    assert (await shop.pay("o1", id="p")).outcome == "already_final"
    assert (await shop.pay("o1", id="p", **TAKE_AGAIN)).outcome == "paid"


async def test_rule_53_the_option_changes_nothing_for_an_order_that_is_not_expired(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    assert (await shop.pay("o1", **TAKE_AGAIN)).result == ("paid", False)
    assert (await shop.pay("o1", **TAKE_AGAIN)).result == ("paid", True)
    await shop.cancel("o1")
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "already_final", "cancelled orders are not taken again"
    await shop.place("o2", {"A": 99})
    assert (await shop.pay("o2", **TAKE_AGAIN)).outcome == "already_final"
    assert shop.stock("A").available == 10


async def test_rule_53_all_lines_or_none_and_nothing_is_oversold(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 3, "B": 3}, hold_seconds=10)
    await shop.tick_after(seconds=10)
    await shop.place("o2", {"B": 4})
    reply = await shop.pay("o1", by_kafka=True, **TAKE_AGAIN)
    assert (reply.outcome, reply.refused) == ("already_final", ("already_final",))
    assert "paid_after_expiry" in reply.alert_types
    assert (shop.order("o1").state, shop.stock("A").available, shop.stock("B").available) == ("expired", 5, 1)
    await shop.cancel("o2")
    assert (await shop.pay("o1", by_kafka=True, **TAKE_AGAIN)).outcome == "paid", "a refused payment may come again"


async def test_rule_53_the_rules_of_the_channel_decide_as_for_a_new_order(shop: ShopClient) -> None:
    await expire(shop, 3, of=9)
    await shop.set_policy(safety_threshold=9, below_threshold="suspend")
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "already_final"
    await shop.set_policy(buffer=7)
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "already_final"
    await shop.set_policy(buffer=6)
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "paid"


async def test_rule_53_a_vip_order_is_taken_again_as_one(shop: ShopClient) -> None:
    await expire(shop, 3, of=9, priority="vip")
    await shop.set_policy(safety_threshold=9, below_threshold="suspend")
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "paid"


@pytest.mark.parametrize(("allows", "outcome"), [(True, "paid"), (False, "already_final")])
async def test_rule_53_a_line_is_preordered_where_the_order_and_its_channel_allow_it(
    shop: ShopClient, allows: bool, outcome: str
) -> None:
    await expire(shop, 3, of=9, allow_preorder=allows)
    await shop.set_policy(safety_threshold=9, below_threshold="preorder", preorder_cap=5)
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == outcome
    assert shop.stock("A").preordered == (3 if allows else 0)
    assert shop.line("o1", "A").state == ("preordered" if allows else "expired")


async def test_rule_53_units_that_were_cancelled_or_refused_are_not_taken_again(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 3, "B": 3, "X": 1}, accept="partial", hold_seconds=10)
    await shop.cancel("o1", ("A", 1), ("B", 3))
    shop.advance(seconds=10)
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "paid"
    assert [(line.state, line.reserved) for line in shop.order("o1").lines] == [
        ("committed", 2),
        ("cancelled", 0),
        ("rejected", 0),
    ]


async def test_rule_53_units_that_were_shipped_after_the_end_are_not_taken_again(shop: ShopClient) -> None:
    await expire(shop, 4, of=10)
    await shop.ship("o1", ("A", 3, "SH1"))
    await shop.pay("o1", **TAKE_AGAIN)
    assert (shop.order("o1").state, shop.line("o1", "A").reserved) == ("paid", 1)
    await shop.place("o2", {"A": 2}, hold_seconds=10)
    shop.advance(seconds=10)
    await shop.ship("o2", ("A", 2, "SH1"))
    assert (await shop.pay("o2", **TAKE_AGAIN)).outcome == "paid"
    assert (shop.order("o2").state, shop.line("o2", "A").state) == ("shipped", "shipped")


async def test_rule_53_a_dwell_that_is_over_counts_before_the_timer_has_run(shop: ShopClient) -> None:
    await expire(shop, 4, of=10)
    await shop.set_policy(safety_threshold=5, below_threshold="suspend", dwell_seconds=60)
    await shop.place("o2", {"A": 6})
    await shop.cancel("o2")
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "already_final"
    shop.advance(seconds=60)
    assert (await shop.pay("o1", **TAKE_AGAIN)).outcome == "paid"


@ON_VALKEY
async def test_rule_53_a_refusal_names_each_line_that_cannot_be_held(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5, "C": 5})
    await shop.place("o1", {"A": 3, "B": 3, "C": 3}, hold_seconds=10)
    await shop.tick_after(seconds=10)
    await shop.set_policy(sku="B", safety_threshold=9, below_threshold="suspend")
    await shop.place("o2", {"C": 4})
    await shop.pay("o1", by_kafka=True, **TAKE_AGAIN)
    decision = shop.driver.decisions[-1]
    assert decision.results[0].reasons == ((1, "channel_suspended"), (2, "insufficient_stock"))
    assert decision.refused[0].detail == (
        "the order is expired, and cannot be taken again: lines[1]: channel_suspended, lines[2]: insufficient_stock"
    )


@ON_VALKEY
async def test_rule_53_an_order_that_was_taken_again_is_kept_and_its_index_is_right(shop: RedisShopClient) -> None:
    await expire(shop)
    await shop.tick()
    key = f"{shop.prefix}order:o1"
    assert await shop.redis.pttl(key) > 0
    await shop.pay("o1", **TAKE_AGAIN)
    assert await shop.redis.pttl(key) == -1
    assert set(await shop.index("held:A")) == {b"o1"} and not await shop.index("deadlines")
    assert shop.order("o1").ended_at is None
