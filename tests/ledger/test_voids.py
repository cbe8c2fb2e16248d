"""Voided movements (rule 54)."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.ledger.ledgers import LIMITS, ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient

IN_STEPS = structs.replace(LIMITS, lines_per_step=2, step_bytes_max=1)


async def test_rule_54_a_receipt_is_reversed_once(shop: ShopClient) -> None:
    await shop.receive("A", 7)
    await shop.receive_all({"A": 3, "B": 5}, id="r")
    assert (await shop.void("r", id="v")).outcome == "voided"
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (7, 0)
    assert (await shop.void("r", id="v")).result == ("voided", True)
    assert (await shop.void("r", id="v2", by_kafka=True)).refused == ("already_voided",)
    assert (await shop.receive_all({"A": 3, "B": 5}, id="r")).result == ("received", True)
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (7, 0)


async def test_rule_54_an_adjustment_is_reversed_by_its_effects(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.adjust("damages", {"A": -3}, id="damages")
    await shop.adjust("scrapped", {"A": -2}, id="scrapped")
    await shop.adjust("lost", {"A": -1}, id="lost")
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (6, 1)
    reply = await shop.void("damages", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("more_than_damaged", ("more_than_damaged",)), "two of them are scrapped"
    await shop.void("scrapped")
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (6, 3)
    await shop.void("damages")
    await shop.void("lost")
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (10, 0)


async def test_rule_54_a_transfer_is_reversed_at_both_ends(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.transfer({"A": 4}, "SH1", "BJ1", id="t")
    assert (await shop.void("t", at="BJ1")).outcome == "unknown_movement", "it is a movement of SH1"
    assert (await shop.void("t")).outcome == "voided"
    assert (shop.stock("A").free("SH1"), shop.stock("A").free("BJ1")) == (10, 0)


async def test_rule_54_what_may_not_be_voided_is_refused_and_the_refusal_stands(shop: ShopClient) -> None:
    await shop.receive("A", 10, id="r")
    await shop.adjust("lost", {"X": -1}, id="refused")
    await shop.void("r", id="v")
    shop.advance(seconds=1)
    await shop.count({"A": 4}, id="c")
    for movement_id, outcome in (
        ("never", "unknown_movement"),
        ("v", "not_voidable"),
        ("c", "not_voidable"),
        ("refused", "not_voidable"),
    ):
        reply = await shop.void(movement_id, id=f"void-{movement_id}", by_kafka=True)
        assert (reply.outcome, reply.refused) == (outcome, (outcome,))
        assert (await shop.void(movement_id, id=f"void-{movement_id}")).result == (outcome, True)
    assert (await shop.void("r", id="void-never")).outcome == "conflict"
    assert shop.stock("A").on_hand == 4


async def test_rule_54_nothing_is_reversed_across_a_count_that_was_applied_since(shop: ShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10}, id="r")
    shop.advance(seconds=60)
    await shop.count({"B": 4})
    reply = await shop.void("r", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("already_counted", ("already_counted",))
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (10, 4), "all lines or none"


@pytest.mark.parametrize("counted", ["SH1", "BJ1"])
async def test_rule_54_a_count_of_either_end_keeps_a_transfer(shop: ShopClient, counted: str) -> None:
    await shop.receive("A", 10)
    await shop.transfer({"A": 4}, "SH1", "BJ1", id="t")
    shop.advance(seconds=60)
    await shop.count({"A": 5}, at=counted)
    assert (await shop.void("t")).outcome == "already_counted"


async def test_rule_54_what_a_count_held_already_had_no_effect_to_reverse(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    await shop.count({"A": 8})
    await shop.count({"A": 0}, at="BJ1")
    await shop.receive_all({"A": 3, "B": 3}, id="part", occurred=30)
    await shop.receive("A", 3, id="none", occurred=30)
    assert (await shop.void("none")).outcome == "already_counted"
    assert (await shop.void("part")).outcome == "voided"
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (8, 0)
    await shop.receive("A", 5, at="GZ1", occurred=1)
    await shop.transfer({"A": 2}, "GZ1", "BJ1", id="t", occurred=30)
    assert (shop.stock("A").free("GZ1"), shop.stock("A").free("BJ1")) == (3, 0), "BJ1 has counted since"
    assert (await shop.void("t", at="GZ1")).outcome == "voided"
    assert (shop.stock("A").free("GZ1"), shop.stock("A").free("BJ1")) == (5, 0)


async def test_rule_54_a_count_as_of_before_the_movement_does_not_keep_it(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    await shop.receive("A", 5, id="r")
    await shop.count({"A": 9}, occurred=30)
    assert shop.stock("A").on_hand == 14
    assert (await shop.void("r")).outcome == "voided"
    assert shop.stock("A").on_hand == 9


@pytest.mark.parametrize("as_of", [30, 90])
async def test_rule_54_a_late_count_carries_neither_the_movement_nor_its_reversal(shop: ShopClient, as_of: int) -> None:
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    await shop.receive("A", 5, id="r")
    shop.advance(seconds=60)
    await shop.void("r")
    await shop.count({"A": 9}, occurred=as_of)
    assert shop.stock("A").on_hand == 9


async def test_rule_54_a_voided_receipt_may_lower_stock_below_zero_with_alerts(shop: ShopClient) -> None:
    await shop.receive("A", 5, id="r")
    await shop.place("o1", {"A": 4})
    reply = await shop.void("r")
    assert (reply.outcome, "shortfall" in reply.alert_types) == ("voided", True)
    assert (shop.stock("A").on_hand, shop.stock("A").available, shop.order("o1").state) == (0, -4, "reserved")
    await shop.receive("B", 5, id="rb")
    await shop.adjust("lost", {"B": -1})
    assert "on_hand_negative" in (await shop.void("rb")).alert_types
    assert shop.mode("B") == "sold_out"


async def test_rule_40_a_void_that_is_dated_ahead_is_refused(shop: ShopClient) -> None:
    await shop.receive("A", 5, id="r")
    assert (await shop.void("r", id="v", occurred=9_999)).outcome == "occurred_in_future"
    assert (await shop.void("r", id="v")).outcome == "voided"


@ON_VALKEY
async def test_rule_54_both_movements_name_each_other(shop: RedisShopClient) -> None:
    await shop.receive("A", 5, id="r")
    await shop.void("r", id="v")
    assert shop.driver.movement("SH1", "r").voided_by == "v"
    record = shop.driver.movement("SH1", "v")
    assert (record.voids, record.lines[0].change, record.lines[0].outcome) == ("r", -5, "voided")
    await shop.void("never", id="v2", by_kafka=True)
    letter = shop.driver.decisions[-1].refused[0]
    assert (letter.reason, letter.detail) == ("unknown_movement", "movement_id")


@ON_VALKEY
@pytest.mark.parametrize("limits", [IN_STEPS])
async def test_rule_54_a_long_movement_is_checked_in_steps_and_then_reversed_in_steps(shop: RedisShopClient) -> None:
    units = dict.fromkeys("ABCDE", 5)
    await shop.receive_all(units, id="r")
    await shop.receive_all(units, id="r2")
    shop.advance(seconds=60)
    before = len(shop.driver.decisions)
    assert (await shop.void("r", id="v")).outcome == "voided"
    steps = shop.driver.decisions[before:]
    assert [len(step.effects) for step in steps] == [0] * 5 + [1] * 5
    assert {shop.stock(sku).on_hand for sku in units} == {5}
    assert (await shop.void("r", id="v")).result == ("voided", True)
    assert len(shop.driver.movement("SH1", "v").lines) == 5
    await shop.count({"E": 5})
    reply = await shop.void("r2", id="v2", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("already_counted", ("already_counted",))
    assert {shop.stock(sku).on_hand for sku in units} == {5}, "all lines or none"
