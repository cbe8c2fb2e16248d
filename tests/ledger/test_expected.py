"""Announced receipts (rules 5, 14 and 17)."""

from __future__ import annotations

import pytest

from stocktide.tables.ledger.client import ExpectedPage, TooLarge
from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, ShopClient


async def test_rule_5_an_announcement_makes_a_sku_known_with_nothing_on_hand(shop: ShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=5)
    assert (await shop.place("o1", {"A": 1})).outcome == "unknown_sku"
    assert (await shop.expect({"A": 100})).result == ("expected", False)
    stock = shop.stock("A")
    assert (stock.incoming, stock.on_hand, stock.available) == (100, 0, 0)
    assert stock.counters == {"incoming#po-9": 100}
    assert shop.offer("A") == ("preorder", 0, 5)
    assert (await shop.place("o2", {"A": 2})).outcome == "preordered"


async def test_rule_17_a_receipt_lowers_what_its_announcement_still_brings(shop: ShopClient) -> None:
    await shop.expect({"A": 100, "B": 5})
    await shop.receive("A", 40, expected_id="po-9")
    assert (shop.stock("A").incoming, shop.stock("A").on_hand) == (60, 40)
    assert shop.stock("B").incoming == 5
    await shop.receive("A", 60, expected_id="po-9")
    assert (shop.stock("A").incoming, shop.stock("A").on_hand) == (0, 100)


async def test_rule_17_a_receipt_of_more_than_was_announced_is_accepted_whole(shop: ShopClient) -> None:
    await shop.expect({"A": 10})
    assert (await shop.receive("A", 15, expected_id="po-9")).outcome == "received"
    assert (shop.stock("A").incoming, shop.stock("A").on_hand) == (0, 15)
    await shop.receive("B", 3, expected_id="po-9")  # which was not announced at all
    assert (shop.stock("B").incoming, shop.stock("B").on_hand) == (0, 3)


async def test_rule_17_a_receipt_for_an_unknown_announcement_is_accepted_whole(shop: ShopClient) -> None:
    await shop.expect({"A": 10})
    for reply in (
        await shop.receive("A", 3, expected_id="po-8", by_kafka=True),
        await shop.receive("A", 4, at="BJ1", expected_id="po-9", by_kafka=True),  # announced for another warehouse
    ):
        assert (reply.outcome, reply.refused) == ("received", ())
    assert (shop.stock("A").incoming, shop.stock("A").on_hand) == (10, 7)


async def test_rule_17_a_receipt_that_a_count_holds_already_still_came(shop: ShopClient) -> None:
    await shop.expect({"A": 10})
    shop.advance(minutes=10)
    await shop.count({"A": 10})
    assert (await shop.receive("A", 10, occurred=60, expected_id="po-9")).outcome == "already_counted"
    assert (shop.stock("A").incoming, shop.stock("A").on_hand) == (0, 10)


async def test_an_announcement_counts_once_and_its_id_is_that_of_no_other_movement(shop: ShopClient) -> None:
    assert (await shop.expect({"A": 10, "B": 0})).result == ("expected", False)
    assert (await shop.expect({"A": 10, "B": 0})).result == ("expected", True)
    assert shop.stock("A").incoming == 10
    assert (await shop.receive("A", 10, id="po-9")).outcome == "conflict"
    reply = await shop.expect({"A": 11}, by_kafka=True)  # of the same time
    assert (reply.outcome, reply.refused) == ("conflict", ("conflict",))
    await shop.receive("A", 1, id="r1")
    assert (await shop.expect({"A": 10}, id="r1")).outcome == "conflict"
    assert (await shop.expect({"A": 7}, at="BJ1")).outcome == "expected"  # ids belong to their warehouse
    assert shop.stock("A").counters["incoming#po-9"] == 17


async def test_rule_17_the_newest_event_amends_and_replaces_the_lines_whole(shop: ShopClient) -> None:
    await shop.expect({"A": 100, "B": 5})
    await shop.receive("A", 40, expected_id="po-9")
    shop.advance(1)
    assert (await shop.expect({"A": 70, "C": 2}, eta=7200)).result == ("amended", False)
    assert [shop.stock(sku).incoming for sku in "ABC"] == [30, 0, 2]
    shop.advance(1)
    await shop.expect({"A": 30})  # less than came
    assert [shop.stock(sku).incoming for sku in "ABC"] == [0, 0, 0]
    shop.advance(1)
    await shop.expect({"A": 100})
    assert shop.stock("A").incoming == 60, "what was received still counts"
    assert shop.stock("A").on_hand == 40


async def test_rule_17_an_older_event_changes_nothing(shop: ShopClient) -> None:
    shop.advance(10)
    await shop.expect({"A": 10})
    reply = await shop.expect({"A": 99}, occurred=9, by_kafka=True)
    assert (reply.result, reply.refused) == (("expected_superseded", False), ())
    assert shop.stock("A").incoming == 10
    shop.advance(10)
    await shop.expect({"A": 10})  # says the same, and is newer
    assert (await shop.expect({"A": 5}, occurred=15)).outcome == "expected_superseded"


async def test_rule_17_quantity_0_withdraws(shop: ShopClient) -> None:
    await shop.expect({"A": 10, "B": 10})
    shop.advance(1)
    assert (await shop.expect({"A": 10, "B": 0})).outcome == "amended"
    assert (shop.stock("A").incoming, shop.stock("B").incoming) == (10, 0)
    shop.advance(1)
    assert (await shop.expect({"A": 0}, eta=None)).outcome == "withdrawn"
    assert shop.stock("A").counters == {}
    shop.advance(1)
    assert (await shop.expect({"A": 4})).outcome == "amended"
    assert shop.stock("A").incoming == 4


async def test_rule_40_an_announcement_from_the_future_is_refused_and_so_is_an_amendment(shop: ShopClient) -> None:
    reply = await shop.expect({"A": 10}, occurred=601, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("occurred_in_future", ("occurred_in_future",))
    await shop.expect({"A": 10})
    assert (await shop.expect({"A": 20}, occurred=601)).outcome == "occurred_in_future"
    assert shop.stock("A").incoming == 10


async def test_announcements_of_a_sku_are_bounded(shop: ShopClient) -> None:
    most = 50
    for number in range(most):
        assert (await shop.expect({"A": 1}, id=f"po-{number}")).outcome == "expected"
    reply = await shop.expect({"B": 1, "A": 1}, id="one-more", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("too_many_expected", ("too_many_expected",))
    assert shop.stock("B").incoming == 0, "all of its lines or none"
    assert (await shop.expect({"B": 1, "A": 1}, id="one-more")).result == ("too_many_expected", True)
    shop.advance(1)
    assert (await shop.expect({"A": 2}, id="po-7")).outcome == "amended"
    await shop.receive("A", 1, expected_id="po-3")
    assert (await shop.expect({"B": 1, "A": 1}, id="one-more")).outcome == "expected"
    assert shop.stock("A").incoming == most + 1


async def test_rule_14_backed_preorders_are_bounded_by_what_is_announced(shop: ShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=50, preorder_backed=True)
    await shop.set_policy("jd", below_threshold="preorder", preorder_cap=50, preorder_backed=True)
    await shop.expect({"A": 10})
    await shop.expect({"A": 5}, at="BJ1", id="po-10")
    assert shop.offer("A") == ("preorder", 0, 15)
    assert (await shop.place("o1", {"A": 16})).outcome == "preorder_cap_reached"
    await shop.place("o2", {"A": 9})
    assert shop.offer("A", "jd") == ("preorder", 0, 6), "less the preorders of all channels"
    await shop.place("o3", {"A": 6}, channel="jd")
    assert shop.mode("A") == shop.mode("A", "jd") == "sold_out"
    shop.advance(1)
    await shop.expect({"A": 12})
    assert shop.offer("A") == ("preorder", 0, 2)


async def test_rule_17_where_an_announcement_is_withdrawn_the_preorders_stand(shop: ShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=50, preorder_backed=True)
    await shop.expect({"A": 10})
    await shop.place("o1", {"A": 4})
    shop.advance(1)
    assert (await shop.expect({"A": 6})).alerts == ()
    assert shop.offer("A") == ("preorder", 0, 2)
    shop.advance(1)
    assert (await shop.expect({"A": 0})).alert_types == {"preorders_unbacked"}
    assert shop.mode("A") == "sold_out"
    assert (shop.line("o1", "A").state, shop.stock("A").preordered) == ("preordered", 4)
    shop.advance(1)
    await shop.expect({"A": 5})
    assert shop.offer("A") == ("preorder", 0, 1)


async def test_rule_17_preorders_without_enough_units_to_come_are_reported(shop: ShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=50)
    await shop.set_policy("jd", below_threshold="preorder", preorder_cap=50)
    await shop.expect({"A": 10, "B": 10})
    await shop.place("o1", {"A": 4})
    await shop.place("o2", {"A": 3}, channel="jd")
    shop.advance(1)
    assert (await shop.expect({"A": 7, "B": 0})).alerts == ()
    shop.advance(1)
    reply = await shop.expect({"A": 5})
    assert [(alert.type, alert.sku) for alert in reply.alerts] == [("preorders_unbacked", "A")]
    assert (await shop.receive("A", 5, expected_id="po-9")).alerts == (), "these came"


async def test_a_receipt_that_is_overdue_is_reported_once_and_again_after_another_eta(shop: ShopClient) -> None:
    await shop.expect({"A": 10, "B": 1}, eta=60)
    await shop.receive("A", 4, expected_id="po-9")
    assert (await shop.tick_after(59)).alerts == ()
    (alert,) = (await shop.tick_after(1)).alerts
    assert (alert.type, alert.sku) == ("receipt_overdue", "")
    assert (await shop.tick_after(60)).alerts == ()
    await shop.expect({"A": 11, "B": 1}, eta=60)  # another quantity, due as before
    assert (await shop.tick_after(60)).alerts == ()
    await shop.expect({"A": 11, "B": 0}, eta=300)
    assert (await shop.tick_after(60)).alerts == ()
    (alert,) = (await shop.tick_after(60)).alerts
    assert (alert.type, alert.sku) == ("receipt_overdue", "A")


async def test_nothing_is_overdue_of_what_came_or_was_withdrawn(shop: ShopClient) -> None:
    await shop.expect({"A": 10}, eta=60)
    await shop.expect({"A": 10}, id="po-10", eta=60)
    await shop.receive("A", 10, expected_id="po-9")
    shop.advance(1)
    await shop.expect({"A": 0}, id="po-10", eta=None)
    assert (await shop.tick_after(60)).result == ("nothing_due", False)
    await shop.expect({"A": 12})  # and reopened, due in an hour
    (alert,) = (await shop.tick_after(minutes=60)).alerts
    assert alert.type == "receipt_overdue"


@ON_VALKEY
async def test_the_record_of_a_receipt_says_that_nothing_was_announced_under_its_expected_id(
    shop: RedisShopClient,
) -> None:
    await shop.expect({"A": 10})
    await shop.receive("A", 1, id="wms-1", expected_id="po-9")
    await shop.receive("A", 1, id="wms-2", expected_id="po-8")
    assert shop.driver.movement("SH1", "wms-1").detail is None
    assert shop.driver.movement("SH1", "wms-2").detail == "expected_id: nothing is announced under this id"


@ON_VALKEY
async def test_an_alert_of_an_overdue_receipt_names_the_announcement(shop: RedisShopClient) -> None:
    await shop.expect({"A": 10, "B": 2}, eta=60)
    (alert,) = (await shop.tick_after(60)).alerts
    assert (alert.warehouse, alert.event_id, alert.event_type, alert.quantity) == ("SH1", "po-9", "stock.expected", 12)


@ON_VALKEY
async def test_an_alert_of_unbacked_preorders_names_the_announcement_and_their_number(shop: RedisShopClient) -> None:
    await shop.set_policy(below_threshold="preorder", preorder_cap=50)
    await shop.expect({"A": 10})
    await shop.place("o1", {"A": 8})
    shop.advance(1)
    (alert,) = (await shop.expect({"A": 2})).alerts
    assert (alert.warehouse, alert.event_id, alert.event_type, alert.quantity) == ("SH1", "po-9", "stock.expected", 6)


@ON_VALKEY
async def test_announcements_are_read_by_page_warehouse_and_sku(shop: RedisShopClient) -> None:
    for warehouse in ("SH1", "SH10", "BJ1"):
        for number in range(3):
            lines = {"A": 1, "B": 2} if number else {"B": 5}
            await shop.expect(lines, at=warehouse, id=f"po-{number}", eta=60 * number)
    await shop.tick()

    async def keys(warehouse: str = "", sku: str = "", overdue: bool | None = None) -> list[str]:
        found: list[str] = []
        page = ExpectedPage("", ())
        while not found or page.cursor:
            page = (await shop.ledger.read_expected(warehouse, sku, overdue, page.cursor, 2)).value
            assert len(page.rows) <= 2
            found += [key for key, _ in page.rows]
            if not page.rows:
                break
        return found

    assert await keys() == [f"{name}\npo-{number}" for name in ("BJ1", "SH1", "SH10") for number in range(3)]
    assert await keys("SH1") == ["SH1\npo-0", "SH1\npo-1", "SH1\npo-2"]
    assert await keys(sku="A") == [f"{name}\npo-{number}" for name in ("BJ1", "SH1", "SH10") for number in (1, 2)]
    assert await keys("BJ1", "A") == ["BJ1\npo-1", "BJ1\npo-2"]
    assert await keys(overdue=True) == ["BJ1\npo-0", "SH1\npo-0", "SH10\npo-0"]
    assert await keys("SH10", overdue=False) == ["SH10\npo-1", "SH10\npo-2"]
    assert await keys("SH1", "B", overdue=True) == ["SH1\npo-0"]
    assert await keys("SH1", "A", overdue=True) == await keys("nowhere") == []


@ON_VALKEY
async def test_an_announcement_lives_as_long_as_units_are_to_come_and_is_listed_a_week_after(
    shop: RedisShopClient,
) -> None:
    await shop.expect({"A": 10})
    key = f"{shop.prefix}movement:SH1\npo-9"
    assert await shop.redis.pttl(key) == -1
    await shop.receive("A", 10, expected_id="po-9")
    assert await shop.redis.pttl(key) > 0
    await shop.tick_after(minutes=7 * 24 * 60 - 1)
    assert len((await shop.ledger.read_expected("", "A", None, "", 9)).value.rows) == 1
    await shop.tick_after(minutes=1)
    for name in ("expected", "expected:A", "incoming:A", "etas", "overdue"):
        assert await shop.index(name) == {}, name
    shop.advance(1)
    await shop.expect({"A": 11})
    assert await shop.index("incoming:A") == {b"SH1\npo-9": OPENING_MS + 3_600_000}


@ON_VALKEY
@pytest.mark.parametrize("limits", [LedgerLimits(lines_per_step=2, step_bytes_max=150)])
async def test_a_long_announcement_is_applied_in_steps(shop: RedisShopClient) -> None:
    for sku in "ABCDE":
        await shop.receive(sku, 1)
    before = shop.driver.batch
    assert (await shop.expect(dict.fromkeys("ABCDE", 3), by_kafka=True)).result == ("expected", False)
    assert shop.driver.batch > before + 1, "several calls"
    assert [shop.stock(sku).incoming for sku in "ABCDE"] == [3] * 5
    assert shop.driver.movement("SH1", "po-9").is_open
    shop.advance(1)
    assert (await shop.expect(dict.fromkeys("CDEFG", 4))).result == ("amended", False)
    assert [shop.stock(sku).incoming for sku in "ABCDEFG"] == [0, 0, 4, 4, 4, 4, 4]
    assert (await shop.expect(dict.fromkeys("CDEFG", 4))).result == ("amended", True)


@ON_VALKEY
async def test_an_announcement_is_bounded_in_its_lines_whatever_its_amendments_name(shop: RedisShopClient) -> None:
    for number in range(3):
        shop.advance(1)
        reply = await shop.expect({f"{number}-{line}": 1 for line in range(2_000)}, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("too_large", ("too_large",))
    assert shop.stock("1-7").incoming == 1 and shop.stock("0-7").incoming == 0


@ON_VALKEY
async def test_a_batch_that_names_several_large_announcements_is_divided(shop: RedisShopClient) -> None:
    lines = {f"{'x' * 100}{number}": 1 for number in range(2_000)}
    for id_ in ("po-1", "po-2"):
        await shop.expect(lines, id=id_)
    receipts = [shop.receive_command({"A": 1}, expected_id=id_) for id_ in ("po-1", "po-2")]
    with pytest.raises(TooLarge):
        await shop.submit_all(*receipts)
    same = [shop.receive_command({"A": 1}, expected_id="po-1") for _ in range(2)]
    assert [reply.outcome for reply in await shop.submit_all(*same)] == ["received", "received"]
