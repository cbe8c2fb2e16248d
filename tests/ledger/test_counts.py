"""Late counts and movements (rule 35): what was seen by the counter, what came after, and what is too old."""

from __future__ import annotations

from tests.ledger.shop import Shop

WAREHOUSE = "SH1"


async def test_rule_35_a_late_count_is_carried_forward_by_what_moved_since(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.later(seconds=60)
    await shop.receive("A", 5, occurred=30)
    await shop.adjust("lost", {"A": -2}, occurred=40)
    told = await shop.count({"A": 9}, occurred=20)
    assert told.outcome == "counted"
    assert shop.stock("A").on_hand == 12, "9 as of second 20, and 5 - 2 since"


async def test_rule_35_carry_forward_covers_shipments_and_returns(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    await shop.place("o1", {"A": 4})
    await shop.pay("o1")
    shop.later(seconds=60)
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=30)
    await shop.take_back("o1", ("A", 1, WAREHOUSE), at=40)
    await shop.count({"A": 10}, occurred=20)
    assert shop.stock("A").on_hand == 7


async def test_rule_35_carry_forward_covers_both_ends_of_a_transfer(shop: Shop) -> None:
    await shop.receive("A", 10, at="SH1", occurred=0)
    await shop.receive("A", 10, at="BJ1", occurred=0)
    shop.later(seconds=60)
    await shop.transfer({"A": 3}, "SH1", "BJ1", occurred=30)
    await shop.count({"A": 10}, at="SH1", occurred=20)
    await shop.count({"A": 10}, at="BJ1", occurred=20)
    assert (shop.free("A", "SH1"), shop.free("A", "BJ1")) == (7, 13)


async def test_rule_35_a_movement_that_the_count_has_seen_changes_nothing(shop: Shop) -> None:
    shop.later(seconds=60)
    await shop.count({"A": 10}, occurred=20)
    for kind, told in {
        "receipt": await shop.receive("A", 5, occurred=10),
        "adjustment": await shop.adjust("lost", {"A": -5}, occurred=19),
        "at the same time": await shop.receive("A", 5, occurred=20),
    }.items():
        assert told.outcome == "already_counted", kind
        assert shop.stock("A").on_hand == 10, kind
    assert (await shop.receive("A", 5, occurred=20.001)).outcome == "received"
    assert shop.stock("A").on_hand == 15


async def test_rule_35_a_late_shipment_still_lowers_committed(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    await shop.place("o1", {"A": 4})
    await shop.pay("o1")
    shop.later(seconds=60)
    await shop.count({"A": 6}, occurred=30)
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=20)
    stock = shop.stock("A")
    assert (stock.on_hand, stock.committed, stock.available) == (6, 0, 6)
    assert shop.order("o1").state == "shipped"


async def test_rule_35_a_late_return_is_in_the_count_unless_it_is_damaged(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    await shop.place("o1", {"A": 4})
    await shop.ship("o1", ("A", 4, WAREHOUSE), at=1)
    shop.later(seconds=60)
    await shop.count({"A": 7}, occurred=30)
    await shop.take_back("o1", ("A", 1, WAREHOUSE), at=20)
    await shop.take_back("o1", ("A", 1, WAREHOUSE, "damaged"), at=20)
    assert (shop.stock("A").on_hand, shop.stock("A").damaged) == (7, 1)
    assert shop.line("o1", "A").returned == 2


async def test_rule_35_a_count_older_than_the_newest_changes_nothing(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.later(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    told = await shop.count({"A": 99}, occurred=29)
    assert told.outcome == "count_superseded"
    assert shop.stock("A").on_hand == 8
    assert (await shop.count({"A": 9}, occurred=30)).outcome == "counted", "an equal time is not older"


async def test_rule_35_a_count_is_judged_line_by_line_and_by_warehouse(shop: Shop) -> None:
    await shop.receive_all({"A": 10, "B": 10}, occurred=0)
    shop.later(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    await shop.count({"A": 7}, at="BJ1", occurred=20)
    assert shop.free("A", "BJ1") == 7
    told = await shop.count({"A": 99, "B": 5}, occurred=20, id="c")
    assert told.outcome == "counted"
    assert shop.till.movement_lines(WAREHOUSE, "c") == {"A": "count_superseded", "B": "counted"}
    assert (shop.free("A", WAREHOUSE), shop.free("B", WAREHOUSE)) == (8, 5)


async def test_a_count_older_than_fifteen_minutes_of_movements_is_refused(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.later(minutes=30)
    await shop.receive("A", 1, occurred=20 * 60)
    told = await shop.count({"A": 99, "B": 1}, occurred=5 * 60 - 1, by_kafka=True)
    assert (told.outcome, told.refused) == ("count_too_old", ("count_too_old",))
    assert (shop.stock("A").on_hand, shop.stock("B").on_hand) == (11, 0)
    assert (await shop.count({"A": 10}, occurred=5 * 60)).outcome == "counted"
    assert shop.stock("A").on_hand == 11


async def test_a_count_older_than_the_last_thirty_two_movements_is_refused(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.later(minutes=5)
    for second in range(1, 34):
        await shop.receive("A", 1, occurred=second)
    assert (await shop.count({"A": 10}, occurred=0.5)).outcome == "count_too_old"
    assert (await shop.count({"A": 11}, occurred=1)).outcome == "counted"
    assert shop.stock("A").on_hand == 11 + 32


async def test_a_first_count_of_an_unseen_sku_makes_it_known(shop: Shop) -> None:
    await shop.count({"A": 3})
    assert (await shop.place("o1", {"A": 3})).outcome == "reserved"


async def test_a_repeated_count_counts_once(shop: Shop) -> None:
    await shop.receive("A", 10, occurred=0)
    shop.later(seconds=60)
    await shop.count({"A": 8}, occurred=30, id="c")
    await shop.receive("A", 5, occurred=50)
    told = await shop.count({"A": 8}, occurred=30, id="c")
    assert (told.outcome, told.replayed) == ("counted", True)
    assert shop.stock("A").on_hand == 13
