"""The history of a SKU from the published decisions of a real ledger, and its descriptions."""

from __future__ import annotations

from msgspec import structs, to_builtins

from stocktide.ops.explain import describe
from stocktide.tables.history import sku_history
from stocktide.tables.ledger.records import Decision, Effect
from stocktide.tables.views import stock_view
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient

pytestmark = ON_VALKEY


def parts_of(decisions: list[Decision], story: sku_history.SkuHistory | None = None) -> list[sku_history.HistoryEntry]:
    """The parts of the history of SKU A, with all decisions under one term."""
    story = story or sku_history.SkuHistory("A")
    return [part for each in decisions for part in story.follow(each, 1, "")]


def changes(shop: RedisShopClient) -> list[sku_history.SkuChange]:
    return [part for part in parts_of(shop.driver.decisions) if isinstance(part, sku_history.SkuChange)]


def descriptions(shop: RedisShopClient) -> list[str]:
    return [describe.describe_change(change) for change in changes(shop)]


async def test_a_history_with_a_count_an_expiry_and_a_return_adds_up_and_is_described(shop: RedisShopClient) -> None:
    await shop.receive("A", 50, id="wms-1")
    await shop.place("o1", {"A": 2})
    await shop.place("o2", {"A": 1}, hold_seconds=1)
    await shop.pay("o1")
    await shop.tick_after(2)
    await shop.ship("o1", ("A", 2, "SH1"))
    await shop.take_back("o1", ("A", 1, "SH1"))
    await shop.take_back("o1", ("A", 1, "SH1", "damaged"))
    shop.advance(1)
    await shop.count({"A": 47}, id="wms-2")
    parts = parts_of(shop.driver.decisions)
    assert isinstance(parts[0], sku_history.HistoryStart) and parts[0].known
    assert not any(isinstance(part, sku_history.Inconsistency) for part in parts)
    assert descriptions(shop) == [
        "received 50 at SH1 (wms-1)",
        "channels were judged anew: a policy changed, or a channel is new",
        "order o1 (tmall) took 2: held",
        "order o2 (tmall) took 1: held",
        "order o1 paid: 2 to be shipped",
        "hold of order o2 ran out: 1 back",
        "order o1 shipped 2 from SH1",
        "order o1 returned 1, sellable, to SH1",
        "order o1 returned 1, damaged, to SH1",
        "counted 47 at SH1 (wms-2): -2",
    ]
    available = [change.view.available for change in changes(shop)]
    assert available == [50, 50, 48, 47, 47, 48, 48, 49, 49, 47]


async def test_the_numbers_after_the_last_change_equal_the_stock_view(shop: RedisShopClient) -> None:
    await shop.receive_at(SH1=10, BJ1=5)
    await shop.place("o1", {"A": 3})
    decision = shop.driver.decisions[-1]
    row = next(row for row in decision.skus if row.sku == "A")
    assert changes(shop)[-1].view == stock_view("A", row.record, row.offers)
    assert to_builtins(sku_history.change_view(changes(shop)[-1])) == {
        "version": 4,
        "at": "2023-11-14T22:13:20.000Z",
        "batch": 3,
        "cause": {"kind": "place", "id": "o1-placed", "order_id": "o1"},
        "change": {"locked@SH1": 3},
        "after": {
            **dict.fromkeys(("committed", "reserved", "short", "preordered", "damaged", "incoming"), 0),
            "on_hand": 15,
            "physical": 15,
            "locked": 3,
            "available": 12,
        },
        "modes": {"tmall": "in_stock"},
    }


async def test_the_changes_of_one_batch_have_the_numbers_in_between(shop: RedisShopClient) -> None:
    await shop.submit_all(
        shop.receive_command({"A": 10}), shop.place_command("o1", {"A": 1}), shop.place_command("o2", {"A": 2})
    )
    locked = [(change.version, change.before.get("locked@SH1", 0), change.view.locked) for change in changes(shop)]
    assert locked == [(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 1, 3)]
    assert [change.offers is not None for change in changes(shop)] == [False, False, False, True]


async def test_the_description_of_a_late_count_names_the_moves_since(shop: RedisShopClient) -> None:
    await shop.receive("A", 50)
    shop.advance(60)
    await shop.adjust("lost", {"A": -3})
    await shop.count({"A": 49}, occurred=30, id="wms-9")
    await shop.count({"A": 46}, id="wms-10")
    assert descriptions(shop)[-2:] == [
        "counted 49 at SH1 (wms-9), 3 left since: -1",
        "counted 46 at SH1 (wms-10): as expected",
    ]
    assert changes(shop)[1].view.on_hand == 47


async def test_a_receipt_that_a_count_includes_is_described_as_no_change(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    shop.advance(60)
    await shop.count({"A": 5})
    await shop.receive("A", 3, occurred=30, id="late")
    assert descriptions(shop)[-1] == "received 3 at SH1 (late), which the newest count holds already: no change"
    assert changes(shop)[-1].deltas == {}


async def test_a_change_of_policy_is_described_with_the_new_mode(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    await shop.subscribe("tmall")
    await shop.set_policy("tmall", safety_threshold=9, below_threshold="preorder", preorder_cap=4)
    await shop.set_policy("tmall", "A", buffer=1)
    last_but_one, last = changes(shop)[-2:]
    assert describe.describe_change(last_but_one) == "policy of tmall changed"
    assert [describe.describe_mode_change(mode) for mode in last_but_one.modes] == [
        "tmall: in stock before, now on preorder, 4 left"
    ]
    assert describe.describe_change(last) == "policy of tmall for this SKU changed"
    await shop.delete_policy("tmall", "A")
    assert describe.describe_change(changes(shop)[-1]) == "policy of tmall for this SKU removed"


async def test_movements_between_and_within_warehouses_are_described_with_their_places(shop: RedisShopClient) -> None:
    await shop.receive("A", 10)
    await shop.transfer({"A": 4}, "SH1", "BJ1", id="wms-2")
    await shop.adjust("damages", {"A": -2}, id="wms-3")
    await shop.adjust("damages", {"A": 1}, id="wms-4")
    await shop.adjust("scrapped", {"A": -1}, id="wms-5")
    await shop.adjust("found", {"A": 1}, id="wms-6")
    assert descriptions(shop)[1:] == [
        "moved 4 from SH1 to BJ1 (wms-2)",
        "2 found damaged at SH1 (wms-3)",
        "1 damaged before, fit for sale again at SH1 (wms-4)",
        "1 damaged scrapped at SH1 (wms-5)",
        "adjusted by +1, found, at SH1 (wms-6)",
    ]
    assert dict(describe.describe_deltas(changes(shop)[1])) == {"SH1": "on hand -4", "BJ1": "on hand +4"}
    assert list(describe.describe_deltas(changes(shop)[2])) == [("SH1", "on hand -2, damaged +2 (now 2)")]


async def test_a_cancellation_of_single_units_is_described(shop: RedisShopClient) -> None:
    await shop.buy(3, of=10)
    await shop.cancel("o1", ("A", 2))
    await shop.cancel("o1", ("A", 1))
    assert descriptions(shop)[-2:] == ["paid order o1 cancelled in part: 2 back", "paid order o1 cancelled: 1 back"]


async def test_a_late_payment_is_described(shop: RedisShopClient) -> None:
    await shop.hold(3, of=10, hold_seconds=1)
    await shop.tick_after(1)
    await shop.pay("o1", if_expired="take_again")
    assert descriptions(shop)[-1] == "order o1 paid after its hold had run out, and taken again: 3 to be shipped"


async def test_an_order_that_is_paid_with_its_placing_is_described(shop: RedisShopClient) -> None:
    await shop.hold(3, of=10, paid=True)
    assert descriptions(shop)[-1] == "order o1 (tmall) took 3: paid, to be shipped"


async def test_an_exchange_is_described(shop: RedisShopClient) -> None:
    await shop.hold(3, of=10)
    await shop.receive("B", 5)
    await shop.change("o1", remove={"A": 1}, add={"B": 1})
    await shop.change("o1", add={"A": 2})
    assert descriptions(shop)[-2:] == ["order o1 changed: 1 back", "order o1 changed: 2 more"]


async def test_a_void_is_described(shop: RedisShopClient) -> None:
    await shop.receive("A", 10, id="r")
    await shop.void("r", id="v")
    assert descriptions(shop)[-1] == "r at SH1 voided (v)"
    assert changes(shop)[-1].deltas == {"on_hand@SH1": -10}
    assert to_builtins(sku_history.change_view(changes(shop)[-1]))["cause"] == {
        "kind": "void",
        "id": "v",
        "warehouse": "SH1",
    }


async def test_announcements_are_described_with_what_is_to_come(shop: RedisShopClient) -> None:
    await shop.expect({"A": 100}, id="po@9")
    await shop.receive("A", 40, id="wms-1", expected_id="po@9")
    shop.advance(1)
    await shop.expect({"A": 90, "B": 1}, id="po@9")
    shop.advance(1)
    await shop.expect({"B": 2}, id="po@9")
    await shop.receive("A", 1, id="wms-2", expected_id="po@9")
    assert descriptions(shop) == [
        "announcement po@9 at SH1: 100 to come",
        "received 40 at SH1 (wms-1), announced as po@9",
        "announcement po@9 at SH1 amended to 90: -10 to come",
        "announcement po@9 at SH1 withdrawn: 50 no longer to come",
        "received 1 at SH1 (wms-2)",
    ]
    assert [change.view.incoming for change in changes(shop)] == [100, 60, 50, 0, 0]
    first = dict(describe.describe_deltas(changes(shop)[1]))
    assert first == {"SH1": "on hand +40", "po@9": "incoming -40 (now 60)"}


async def test_the_ends_of_orders_have_different_descriptions(shop: RedisShopClient) -> None:
    await shop.receive("A", 10)
    await shop.set_policy("jd", "A", safety_threshold=99, below_threshold="preorder", preorder_cap=5)
    await shop.place("o1", {"A": 2})
    await shop.place("o2", {"A": 3}, supersedes="o1")
    await shop.pay("o2")
    await shop.cancel("o2")
    await shop.place("o3", {"A": 1}, channel="jd")
    await shop.cancel("o3")
    await shop.place("o4", {"A": 1}, priority="vip")
    await shop.ship("o4", ("A", 2, "SH1"))
    assert [words for words in descriptions(shop) if "order" in words and "judged" not in words] == [
        "order o1 (tmall) took 2: held",
        "order o1 gave way to o2: 2 back",
        "order o2 (tmall) took 3: held",
        "order o2 paid: 3 to be shipped",
        "paid order o2 cancelled: 3 back",
        "order o3 (jd) preordered 1",
        "order o3 cancelled: 1 preordered no more",
        "order o4 (tmall, VIP) took 1: held",
        "order o4 shipped before it was paid: 1 committed",
        "order o4 shipped 2 from SH1, 1 more than it had",
    ]


async def test_without_the_journals_head_the_history_begins_with_an_earlier_state(shop: RedisShopClient) -> None:
    await shop.hold(2, of=10)
    await shop.place("o2", {"A": 3})
    opening, *rest = parts_of(shop.driver.decisions[2:])
    assert isinstance(opening, sku_history.HistoryStart) and not opening.known
    assert (opening.record.version, opening.record.counters) == (3, {"on_hand@SH1": 10, "locked@SH1": 2})
    assert [part.version for part in rest if isinstance(part, sku_history.SkuChange)] == [4]


async def test_a_takeover_between_two_changes_comes_before_the_later_one(shop: RedisShopClient) -> None:
    story = sku_history.SkuHistory("A")
    await shop.receive("A", 10)
    await shop.receive("A", 1)
    await shop.receive("A", 1)
    first, second, third = shop.driver.decisions
    assert not [part for part in story.follow(first, 1, "w1") if isinstance(part, sku_history.Takeovers)]
    takeovers, change = story.follow(second, 4, "w2")
    assert isinstance(takeovers, sku_history.Takeovers) and isinstance(change, sku_history.SkuChange)
    assert describe.describe_takeovers(takeovers).startswith("takeovers 2 to 4: ")
    assert [type(part) for part in story.follow(third, 4, "w2")] == [sku_history.SkuChange]


def strayed(decision: Decision, on_hand: int) -> Decision:
    """The decision of a ledger that held other units than its log."""
    (row,) = decision.skus
    record = structs.replace(row.record, counters={**row.record.counters, "on_hand@SH1": on_hand})
    return structs.replace(decision, skus=(structs.replace(row, record=record),))


async def test_an_inconsistency_with_earlier_changes_is_described_and_counted(shop: RedisShopClient) -> None:
    story = sku_history.SkuHistory("A")
    await shop.receive("A", 10)
    await shop.receive("A", 5)
    first, second = shop.driver.decisions
    parts = parts_of([first, strayed(second, 17)], story)
    (found,) = [part for part in parts if isinstance(part, sku_history.Inconsistency)]
    assert describe.describe_inconsistency(found) == "not explained by the log: on_hand@SH1 stood at 10, then at 12"
    assert story.breaks == 1
    story = sku_history.SkuHistory("A")
    parts_of([first, structs.replace(second, effects=())], story)
    assert story.breaks == 1, "a state that changed without an effect"
    story = sku_history.SkuHistory("A")
    parts_of([first, second, second], story)
    assert story.breaks == 1, "a change that is repeated"


async def test_a_state_that_is_written_again_is_no_change(shop: RedisShopClient) -> None:
    story = sku_history.SkuHistory("A")
    await shop.receive("A", 10)
    (first,) = shop.driver.decisions
    assert parts_of([first, structs.replace(first, batch=2, effects=())], story)[2:] == []
    assert story.breaks == 0


async def test_a_repair_starts_from_the_state_it_found_and_resolves_an_inconsistency(shop: RedisShopClient) -> None:
    story = sku_history.SkuHistory("A")
    await shop.receive("A", 10)
    await shop.receive("A", 5)
    await shop.receive("A", 1)
    first, second, third = shop.driver.decisions
    cause = (sku_history.REPAIR, "fix-1", "mei")
    repair = structs.replace(
        strayed(third, 15), effects=(Effect("A", 3, cause, {"on_hand@SH1": -3}),), movements=(), results=()
    )
    parts = parts_of([first, strayed(second, 17), repair], story)
    change = parts[-1]
    assert isinstance(change, sku_history.SkuChange) and describe.describe_change(change) == "repaired by mei (fix-1)"
    assert describe.describe_deviation(change) == "found otherwise than this log says: on_hand@SH1 at 18, not at 17"
    assert (story.breaks, story.repaired) == (0, 1)
    assert to_builtins(sku_history.change_view(change).cause) == {"kind": "repair", "id": "fix-1", "actor": "mei"}


async def test_a_batch_without_the_sku_adds_nothing_to_its_history(shop: RedisShopClient) -> None:
    await shop.receive("B", 10)
    assert parts_of(shop.driver.decisions) == [] and sku_history.changes_of(shop.driver.decisions[0], "A") == ()
