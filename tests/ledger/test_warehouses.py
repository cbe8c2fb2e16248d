"""Movements: receipts, adjustments, transfers, and ids (rules 33, 34, 36 to 38)."""

from __future__ import annotations

from tests.ledger.shop_client import ShopClient


async def test_rule_33_scrapping_lowers_damaged_alone(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.adjust("damages", {"A": -3})
    await shop.adjust("scrapped", {"A": -2})
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (7, 1)


async def test_rule_34_a_count_includes_locked_and_committed_and_excludes_damaged(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.adjust("damages", {"A": -1})
    await shop.place("o1", {"A": 2})
    await shop.place("o2", {"A": 3})
    await shop.pay("o2")
    shop.advance(seconds=1)
    assert (await shop.count({"A": 9})).outcome == "counted"
    stock = shop.stock("A")
    assert (stock.on_hand, stock.damaged, stock.locked, stock.committed, stock.available) == (9, 1, 2, 3, 4)


async def test_rule_34_a_count_leaves_skus_alone_that_it_does_not_list(shop: ShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10})
    shop.advance(seconds=1)
    await shop.count({"A": 4})
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (4, 10)


async def test_rule_34_a_count_that_is_too_low_makes_available_negative(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    await shop.place("o2", {"A": 4})
    shop.advance(seconds=1)
    reply = await shop.count({"A": 5})
    assert shop.stock("A").available == -3
    assert "shortfall" in reply.alert_types
    orders = next(alert.orders for alert in reply.alerts if alert.type == "shortfall")
    assert set(orders) in ({"o1", "o2"}, set()), "the model names no orders"


async def test_rule_34_a_movement_is_all_or_nothing_over_its_lines(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    reply = await shop.adjust("lost", {"A": -1, "X": -1}, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("unknown_sku", ("unknown_sku",))
    assert shop.stock("A").on_hand == 10


async def test_rule_36_a_transfer_moves_units_to_the_other_warehouse(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    assert (await shop.transfer({"A": 4}, "SH1", "BJ1")).outcome == "transferred"
    assert (shop.stock("A").free("SH1"), shop.stock("A").free("BJ1"), shop.stock("A").on_hand) == (6, 4, 10)


async def test_rule_36_a_transfer_of_locked_units_leaves_the_holds_with_the_source(shop: ShopClient) -> None:
    await shop.hold(8, of=10)
    reply = await shop.transfer({"A": 5}, "SH1", "BJ1")
    assert reply.outcome == "transferred"
    assert (shop.stock("A").free("SH1"), shop.stock("A").free("BJ1")) == (-3, 5)
    assert "shortfall" in reply.alert_types
    assert shop.line("o1", "A").warehouses == {"SH1": 8}


async def test_rule_37_an_adjustment_below_zero_is_taken_with_an_alert(shop: ShopClient) -> None:
    await shop.receive("A", 2)
    reply = await shop.adjust("lost", {"A": -5})
    assert reply.outcome == "adjusted"
    assert shop.stock("A").on_hand == -3
    assert "on_hand_negative" in reply.alert_types


async def test_rule_47_a_value_that_falls_below_zero_is_reported_for_every_cause(shop: ShopClient) -> None:
    await shop.receive("A", 2)
    opening = shop.seconds
    shop.advance(seconds=10)
    assert "on_hand_negative" in (await shop.transfer({"A": 3}, "SH1", "BJ1")).alert_types
    await shop.place("o1", {"A": 2})
    assert "on_hand_negative" in (await shop.ship("o1", ("A", 2, "SH1"))).alert_types
    assert "on_hand_negative" not in (await shop.receive("A", 1)).alert_types, "it rose"
    reply = await shop.count({"A": 2}, at="SH1", occurred=opening)
    assert shop.stock("A").total("on_hand", "SH1") == -2
    assert "on_hand_negative" not in reply.alert_types, "it stayed"
    await shop.receive("B", 5)
    early = shop.seconds
    shop.advance(seconds=10)
    await shop.place("o2", {"B": 3})
    await shop.ship("o2", ("B", 3, "SH1"))
    assert "on_hand_negative" in (await shop.count({"B": 1}, occurred=early)).alert_types, "counted less than has left"


async def test_rule_47_damaged_below_zero_is_reported(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.adjust("damages", {"A": -2})
    assert "damaged_negative" not in (await shop.adjust("scrapped", {"A": -2})).alert_types
    reply = await shop.adjust("scrapped", {"A": -1})
    assert (reply.outcome, reply.alert_types) == ("adjusted", {"damaged_negative"})
    assert shop.stock("A").damaged == -1
    assert not (await shop.adjust("scrapped", {"A": 1})).alert_types


async def test_rule_37_an_adjustment_of_an_unknown_sku_is_refused(shop: ShopClient) -> None:
    assert (await shop.adjust("found", {"X": 5})).outcome == "unknown_sku"
    assert (await shop.place("o1", {"X": 1})).outcome == "unknown_sku"


async def test_rule_38_a_movement_counts_once_in_its_warehouse(shop: ShopClient) -> None:
    await shop.receive("A", 10, at="SH1", id="m1")
    assert (await shop.receive("A", 10, at="SH1", id="m1")).result == ("received", True)
    assert (await shop.receive("A", 10, at="BJ1", id="m1")).replayed is False
    assert shop.stock("A").on_hand == 20


async def test_rule_38_the_same_movement_id_with_another_body_is_a_conflict(shop: ShopClient) -> None:
    await shop.receive("A", 10, id="m1")
    reply = await shop.receive("A", 11, id="m1", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("conflict", ("conflict",))
    assert (await shop.adjust("lost", {"A": 10}, id="m1")).outcome == "conflict"
    assert shop.stock("A").on_hand == 10


async def test_rule_38_a_refused_movement_stays_refused(shop: ShopClient) -> None:
    await shop.adjust("found", {"A": 5}, id="m1")
    await shop.receive("A", 1)
    assert (await shop.adjust("found", {"A": 5}, id="m1")).result == ("unknown_sku", True)
    assert shop.stock("A").on_hand == 1


async def test_rule_33_more_cannot_come_back_from_damaged_than_is_there(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.adjust("damages", {"A": -2})
    assert (await shop.adjust("damages", {"A": 3})).outcome == "more_than_damaged"
    assert (await shop.adjust("damages", {"A": 2})).outcome == "adjusted"
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (5, 0)
