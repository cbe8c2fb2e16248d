"""Late counts and movements (rules 35, 40, 41, 44): what a count includes, what came later, and what is too old."""

from __future__ import annotations

import pytest

from tests.ledger.shop_client import ShopClient

WAREHOUSE = "SH1"


async def test_rule_35_a_late_count_is_carried_forward_by_what_moved_since(shop: ShopClient) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.advance(seconds=60)
    await shop.receive("A", 5, occurred=30)
    await shop.adjust("lost", {"A": -2}, occurred=40)
    assert (await shop.count({"A": 9}, occurred=20)).outcome == "counted"
    assert shop.stock("A").on_hand == 12, "9 as of second 20, and 5 - 2 since"


async def test_rule_35_carry_forward_covers_shipments_and_returns(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    shop.advance(seconds=60)
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=30)
    await shop.take_back("o1", ("A", 1, WAREHOUSE), at=40)
    await shop.count({"A": 10}, occurred=20)
    assert shop.stock("A").on_hand == 7


async def test_rule_35_carry_forward_covers_both_ends_of_a_transfer(shop: ShopClient) -> None:
    await shop.receive("A", 10, at="SH1", occurred=0)
    await shop.receive("A", 10, at="BJ1", occurred=0)
    shop.advance(seconds=60)
    await shop.transfer({"A": 3}, "SH1", "BJ1", occurred=30)
    await shop.count({"A": 10}, at="SH1", occurred=20)
    await shop.count({"A": 10}, at="BJ1", occurred=20)
    assert (shop.stock("A").free("SH1"), shop.stock("A").free("BJ1")) == (7, 13)


async def test_rule_35_a_movement_that_the_count_has_seen_changes_nothing(shop: ShopClient) -> None:
    shop.advance(seconds=60)
    await shop.count({"A": 10}, occurred=20)
    for kind, reply in {
        "receipt": await shop.receive("A", 5, occurred=10),
        "adjustment": await shop.adjust("lost", {"A": -5}, occurred=19),
        "at the same time": await shop.receive("A", 5, occurred=20),
    }.items():
        assert reply.outcome == "already_counted", kind
        assert shop.stock("A").on_hand == 10, kind
    assert (await shop.receive("A", 5, occurred=20.001)).outcome == "received"
    assert shop.stock("A").on_hand == 15


async def test_rule_35_a_late_shipment_still_lowers_committed(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    shop.advance(seconds=60)
    await shop.count({"A": 6}, occurred=30)
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=20)
    stock = shop.stock("A")
    assert (stock.on_hand, stock.committed, stock.available) == (6, 0, 6)
    assert shop.order("o1").state == "shipped"


async def test_rule_35_a_late_return_is_in_the_count_unless_it_is_damaged(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=1)
    shop.advance(seconds=60)
    await shop.count({"A": 7}, occurred=30)
    await shop.take_back("o1", ("A", 1, WAREHOUSE), at=20)
    await shop.take_back("o1", ("A", 1, WAREHOUSE, "damaged"), at=20)
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (7, 1)
    assert shop.line("o1", "A").returned == 2


async def test_rule_35_a_count_older_than_the_newest_changes_nothing(shop: ShopClient) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.advance(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    assert (await shop.count({"A": 99}, occurred=29)).outcome == "count_superseded"
    assert shop.stock("A").on_hand == 8
    assert (await shop.count({"A": 9}, occurred=30)).outcome == "counted", "an equal time is not older"


async def test_rule_35_a_count_is_judged_line_by_line_and_by_warehouse(shop: ShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10}, occurred=0)
    shop.advance(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    await shop.count({"A": 7}, at="BJ1", occurred=20)
    assert shop.stock("A").free("BJ1") == 7
    assert (await shop.count({"B": 5, "A": 99, "C": 4}, occurred=20, id="c")).outcome == "counted_in_part"
    assert shop.driver.movement_lines(WAREHOUSE, "c") == {"B": "counted", "A": "count_superseded", "C": "counted"}
    assert [shop.stock(sku).free(WAREHOUSE) for sku in "ABC"] == [8, 5, 4]
    assert (await shop.count({"B": 5, "A": 99, "C": 4}, occurred=20, id="c")).result == ("counted_in_part", True)


async def test_rule_41_a_count_as_of_more_than_24_hours_ago_is_refused(shop: ShopClient) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.advance(minutes=24 * 60)
    await shop.receive("A", 1, occurred=1)
    reply = await shop.count({"A": 99, "B": 1}, occurred=-0.001, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("count_too_old", ("count_too_old",))
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (11, 0)
    assert (await shop.place("o1", {"B": 1})).outcome == "unknown_sku", "a count that was refused makes nothing known"
    assert (await shop.count({"A": 20}, occurred=0)).outcome == "counted"
    assert shop.stock("A").on_hand == 21


@pytest.mark.parametrize("seconds", [0, 0.001, 0.999, 1, 59.999, 60, 61.5, 3_599.999, 3_600, 7_322.123, 40_000])
async def test_rule_41_a_count_is_exact_at_the_edges_of_time_units(shop: ShopClient, seconds: float) -> None:
    edges = (0, 0.001, 0.002, 0.999, 1, 1.001, 59.999, 60, 61.5, 61.501, 3_599.999, 3_600, 7_322.123, 7_322.124, 40_000)
    shop.advance(minutes=60 * 12)
    for number, edge in enumerate(edges):
        await shop.receive("A", 2**number, occurred=edge)
    await shop.count({"A": 5}, occurred=seconds)
    assert shop.stock("A").on_hand == 5 + sum(2**number for number, edge in enumerate(edges) if edge > seconds)


async def test_rule_41_a_count_of_two_thousand_lines_carries_33_shipments_forward(shop: ShopClient) -> None:
    await shop.hold(33, of=100)
    shop.advance(seconds=60)
    for number in range(33):
        await shop.ship("o1", ("A", 1, WAREHOUSE), at=59 + number / 100)
    others = {f"B{number}": number for number in range(1_999)}
    assert (await shop.count({"A": 90} | others, occurred=58)).outcome == "counted"
    assert (shop.stock("A").on_hand, shop.stock("B1998").on_hand) == (90 - 33, 1_998)


async def test_rule_41_a_count_sees_the_movements_of_its_own_batch(shop: ShopClient) -> None:
    shop.advance(seconds=60)
    moved = [shop.receive_command({"A": 2**number}, occurred=10 + number) for number in range(4)]
    counted = shop.count_command({"A": 50}, occurred=12)
    reply = await shop.submit_all(*moved, counted, shop.receive_command({"A": 100}, occurred=12.001))
    assert [each.outcome for each in reply] == ["received"] * 4 + ["counted", "received"]
    assert shop.stock("A").on_hand == 50 + 8 + 100


async def test_rule_41_a_count_may_be_of_a_thousand_million_units(shop: ShopClient) -> None:
    await shop.count({"A": 1_000_000_000})
    assert shop.stock("A").on_hand == 1_000_000_000


async def test_rule_40_a_movement_dated_too_far_ahead_may_be_corrected(shop: ShopClient) -> None:
    shop.advance(seconds=60)
    reply = await shop.count({"A": 10}, occurred=60 + 8 * 3_600, id="c", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("occurred_in_future", ("occurred_in_future",))
    assert (await shop.receive("A", 10, occurred=60 + 600.001, id="m")).outcome == "occurred_in_future"
    reply = await shop.receive("A", 10, occurred=60 + 600, id="m")
    assert reply.result == ("received", False), "a corrected one is the same movement, and new"
    assert (await shop.count({"A": 10}, id="c")).outcome == "counted"
    await shop.place("o1", {"A": 4})
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=60.001)
    assert shop.stock("A").on_hand == 16, "10 counted, 10 that came after, 4 gone"


async def test_rule_40_no_event_of_an_order_is_dated_further_ahead_than_allowed(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    assert (await shop.ship("o1", ("A", 4, WAREHOUSE), at=601)).outcome == "occurred_in_future"
    assert shop.order("o1").state == "paid"
    assert (await shop.ship("o1", ("A", 4, WAREHOUSE), at=600)).outcome == "shipped"
    assert (await shop.take_back("o1", ("A", 1, WAREHOUSE), at=601)).outcome == "occurred_in_future"


async def test_rule_40_a_fresh_event_that_is_already_counted_is_reported(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    shop.advance(minutes=10)
    await shop.count({"A": 10}, occurred=600 + 300)  # a clock that is five minutes ahead
    assert "already_counted" in (await shop.ship("o1", ("A", 3, WAREHOUSE), at=600)).alert_types
    assert "already_counted" in (await shop.take_back("o1", ("A", 1, WAREHOUSE), at=600)).alert_types
    assert "already_counted" in (await shop.receive("A", 7, occurred=540)).alert_types
    assert "already_counted" not in (await shop.receive("A", 7, occurred=539.999)).alert_types, "merely late"


async def test_rule_44_a_movement_repeated_with_another_time_is_a_repeat_and_a_count_is_not(shop: ShopClient) -> None:
    shop.advance(seconds=60)
    await shop.receive("A", 10, occurred=0, id="m")
    assert (await shop.receive("A", 10, occurred=5, id="m")).result == ("received", True)
    await shop.count({"A": 10}, occurred=10, id="c")
    assert (await shop.count({"A": 10}, occurred=11, id="c")).outcome == "conflict"


async def test_a_first_count_of_an_unseen_sku_makes_it_known(shop: ShopClient) -> None:
    await shop.count({"A": 3})
    assert (await shop.place("o1", {"A": 3})).outcome == "reserved"


async def test_a_repeated_count_counts_once(shop: ShopClient) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.advance(seconds=60)
    await shop.count({"A": 8}, occurred=30, id="c")
    await shop.receive("A", 5, occurred=50)
    assert (await shop.count({"A": 8}, occurred=30, id="c")).result == ("counted", True)
    assert shop.stock("A").on_hand == 13
