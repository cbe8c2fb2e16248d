"""What operators do to orders that wait: they hold them back, and assign units to them; each with a reason, audited."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from stocktide.tables.ledger.records import ActedLine, ActionRow
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LIMITS, ON_SERVERS, ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, ShopClient, open_shop


async def two_wait(shop: ShopClient, **policy: Any) -> None:
    """o1 waits for 3 units of A, and o2, behind it, for 2."""
    await shop.set_policy(**({"below_threshold": "preorder", "preorder_cap": 100} | policy))
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    await shop.place("o1", {"A": 3})
    await shop.place("o2", {"A": 2})


def reserved(shop: ShopClient) -> tuple[int, int]:
    return shop.line("o1", "A").reserved, shop.line("o2", "A").reserved


async def test_fills_pass_over_an_order_that_is_held_back_until_it_is_released(shop: ShopClient) -> None:
    await two_wait(shop)
    assert (await shop.hold_back("o1")).outcome == "changed"
    await shop.receive("A", 3)
    assert (reserved(shop), shop.stock("A").available) == ((0, 2), 1)
    assert (await shop.hold_back("o1", held=False)).outcome == "changed"
    assert (reserved(shop), shop.line("o1", "A").preordered) == ((1, 2), 2)


async def test_a_released_order_comes_back_to_its_place_in_the_queue(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.hold_back("o1")
    await shop.hold_back("o1", held=False)
    await shop.receive("A", 4)
    assert reserved(shop) == (3, 1)


async def test_one_line_of_an_order_is_held_back_alone(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.receive("B", 1)
    await shop.adjust("lost", {"B": -1})
    await shop.place("o3", {"A": 1, "B": 1})
    await shop.hold_back("o3", "B")
    await shop.receive("A", 6)
    await shop.receive("B", 1)
    assert (shop.line("o3", "A").reserved, shop.line("o3", "B").preordered) == (1, 1)
    assert (await shop.hold_back("o3", "C")).outcome == "not_in_order"


async def test_short_units_that_are_held_back_stay_promised_and_nobody_is_offered_them(shop: ShopClient) -> None:
    await shop.set_policy("jd", safety_threshold=0)
    await shop.place("o1", {"A": 3}, accept="sold")
    await shop.hold_back("o1")
    await shop.receive("A", 4)
    assert (shop.line("o1", "A").short, shop.offer("A", "jd")) == (3, ("in_stock", 1, 0))
    await shop.hold_back("o1", held=False)
    assert (shop.line("o1", "A").reserved, shop.stock("A").short) == (3, 0)
    assert shop.offer("A", "jd") == ("in_stock", 1, 0)


async def test_what_is_held_back_ends_like_any_hold(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.place("o3", {"A": 1}, hold_seconds=60)
    await shop.hold_back("o3")
    await shop.tick_after(60)
    assert (shop.order("o3").state, (await shop.hold_back("o3")).outcome) == ("expired", "already_final")
    await shop.hold_back("o1")
    await shop.cancel("o1")
    await shop.receive("A", 2)
    assert (shop.order("o1").state, reserved(shop)) == ("cancelled", (0, 2))


async def test_units_are_assigned_below_the_threshold_and_before_the_head_of_the_queue(shop: ShopClient) -> None:
    await two_wait(shop, safety_threshold=5)
    await shop.receive("A", 4)
    assert reserved(shop) == (0, 0)
    assert (await shop.assign("o2")).outcome == "changed"
    assert (reserved(shop), shop.line("o2", "A").state) == ((0, 2), "reserved")
    assert (shop.stock("A").available, shop.stock("A").preordered) == (2, 3)
    await shop.pay("o1")
    await shop.assign("o1", {"A": 1})
    line = shop.line("o1", "A")
    assert (line.reserved, line.preordered, shop.stock("A").committed) == (1, 2, 1)


async def test_units_are_assigned_to_an_order_that_is_held_back(shop: ShopClient) -> None:
    await shop.place("o1", {"A": 3}, accept="sold")
    await shop.hold_back("o1")
    await shop.receive("A", 2)
    assert (await shop.assign("o1", {"A": 2})).outcome == "changed"
    assert (shop.line("o1", "A").reserved, shop.line("o1", "A").short, shop.stock("A").available) == (2, 1, -1)


async def test_what_is_short_is_not_assigned_to_a_preorder(shop: ShopClient) -> None:
    await two_wait(shop)
    await shop.place("sold", {"A": 2}, accept="sold", allow_preorder=False)
    await shop.hold_back("sold")
    await shop.hold_back("o1")
    await shop.hold_back("o2")
    await shop.receive("A", 3)
    assert (await shop.assign("o2")).outcome == "insufficient_stock"
    assert (await shop.assign("o2", {"A": 1})).outcome == "changed"
    assert (await shop.assign("sold")).outcome == "changed"


async def test_nothing_is_assigned_if_one_line_cannot_have_its_units(shop: ShopClient) -> None:
    await two_wait(shop, safety_threshold=9)
    await shop.receive_all({"A": 9, "B": 1})
    await shop.adjust("lost", {"B": -1})
    await shop.place("o3", {"A": 2, "B": 2})
    sequence = shop.order("o3").sequence
    assert (await shop.assign("o3")).outcome == "insufficient_stock"
    assert (shop.line("o3", "A").reserved, shop.order("o3").sequence) == (0, sequence)
    assert (await shop.assign("o3", {"A": 3})).outcome == "more_than_open"
    assert (await shop.assign("o3", {"C": 1})).outcome == "not_in_order"
    assert (await shop.assign("o3", {"A": 2})).outcome == "changed"


async def test_units_are_assigned_from_the_warehouses_of_the_channel_alone(shop: ShopClient) -> None:
    await two_wait(shop, warehouses=("BJ1",), safety_threshold=9)
    await shop.receive("A", 5)
    assert (await shop.assign("o1")).outcome == "insufficient_stock"
    await shop.receive("A", 3, at="BJ1")
    assert (await shop.assign("o1")).outcome == "changed"
    assert shop.line("o1", "A").warehouses == {"BJ1": 3}


async def test_an_action_counts_once_and_another_body_with_its_id_is_a_conflict(shop: ShopClient) -> None:
    await two_wait(shop, safety_threshold=9)
    await shop.receive("A", 9)
    for is_repeat in (False, True):
        assert (await shop.assign("o1", {"A": 1}, id="a1")).result == ("changed", is_repeat)
        assert (await shop.hold_back("o2", id="h1")).result == ("changed", is_repeat)
    assert (await shop.assign("o1", {"A": 2}, id="a1")).outcome == "conflict"
    assert (await shop.hold_back("o2", held=False, id="h1")).outcome == "conflict"
    assert (shop.line("o1", "A").reserved, shop.order("o2").held_back) == (1, {"A": True})


async def test_an_order_of_which_nothing_waits_gets_nothing(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    assert (await shop.assign("o1")).outcome == "more_than_open"
    assert (await shop.assign("unknown")).outcome == "unknown_order"
    await shop.hold_back("o1")
    assert shop.order("o1").held_back == {}


@ON_SERVERS
async def test_the_journal_says_who_did_what_and_why_with_the_lines_before_and_after(shop: RedisShopClient) -> None:
    await two_wait(shop, safety_threshold=5)
    await shop.receive("A", 5)
    await shop.hold_back("o1", id="h1", actor="bob", reason="asked by the shopper")
    await shop.assign("o1", {"A": 2}, id="a1", reason="a promise")
    rows = [row for decision in shop.driver.decisions for row in decision.actions]
    waits, held, given = (ActedLine("A", *units) for units in ((0, 3, 0, False), (0, 3, 0, True), (2, 1, 0, True)))
    assert rows == [
        ActionRow("held_back", "o1", "h1", "bob", "asked by the shopper", (waits,), (held,)),
        ActionRow("assigned", "o1", "a1", "ann", "a promise", (held,), (given,)),
    ]
    assert await shop.index("queue:A\ntmall") == {b"o2": shop.order("o2").queued}
    causes = [effect.cause for decision in shop.driver.decisions for effect in decision.effects]
    assert causes[-1] == ("assign", "a1", "o1")


async def test_a_release_whose_fill_needs_several_batches_goes_on_with_the_tick(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=1)) as shop:
        await two_wait(shop)
        await shop.hold_back("o1")
        await shop.hold_back("o2")
        await shop.receive("A", 5)
        await shop.submit_all(shop.hold_back_command("o1", held=False), shop.hold_back_command("o2", held=False))
        while (await shop.tick()).outcome != "nothing_due":
            pass
        assert (reserved(shop), await shop.index("fills")) == ((3, 2), {})


@ON_VALKEY
async def test_two_thousand_lines_are_held_back_assigned_and_released_and_then_filled_in_few_steps(
    shop: RedisShopClient,
) -> None:
    skus = [f"s{number:04d}" for number in range(2_000)]
    await shop.place("o1", dict.fromkeys(skus, 2), accept="sold")
    await shop.hold_back("o1")
    await shop.receive_all(dict.fromkeys(skus, 2))
    assert {(line.short, line.reserved) for line in shop.order("o1").lines} == {(2, 0)}
    assert (await shop.assign("o1", dict.fromkeys(skus, 1))).outcome == "changed"
    assert {(line.short, line.reserved) for line in shop.order("o1").lines} == {(1, 1)}
    assert (await shop.hold_back("o1", held=False)).outcome == "changed"
    ticks = 0
    while (await shop.tick()).outcome != "nothing_due":
        ticks += 1
    assert ticks < 100
    assert {(line.short, line.reserved) for line in shop.order("o1").lines} == {(0, 2)}
    assert shop.order("o1").held_back == {}
