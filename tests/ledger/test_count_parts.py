"""Counts in parts, and counts that are complete (rule 41): steps of one count, each as of the count's own time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktide.tables.ledger.commands import ContinueCounts
from stocktide.tables.ledger.records import MovementRecord
from tests.ledger.drivers import CommandReply
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.shop_client import RedisShopClient

W = "SH1"
DAY = 86_400
STEPS_MAX = 200

pytestmark = ON_SERVERS  # the model does not count in steps


async def count(shop: RedisShopClient, lines: Mapping[str, int], seconds: float, **fields: Any) -> CommandReply:
    """A part, or a complete count, as of so many seconds after the opening."""
    return await shop.count(lines, occurred=seconds, **({"id": "c"} | fields))


async def finish(shop: RedisShopClient, skus_max: int = 2, between: Any = None) -> int:
    """Take every step that is due and return their number. `between` is called after each."""
    for number in range(STEPS_MAX):
        if (await shop.submit(ContinueCounts(skus_max=skus_max))).outcome == "nothing_due":
            return number
        if between is not None:
            await between()
    raise AssertionError("the steps do not end")


def record(shop: RedisShopClient, id_: str = "c") -> MovementRecord:
    return shop.driver.movement(W, id_)


async def test_rule_41_parts_form_one_count_as_of_its_time_once_all_have_arrived(shop: RedisShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10, "C": 10}, occurred=0)
    shop.advance(seconds=60)
    await shop.receive("A", 5, occurred=30)
    for part, lines in ((3, {"C": 3}), (1, {"A": 7})):
        assert (await count(shop, lines, 20, part=part, parts=3)).outcome == "parts_missing"
    assert record(shop).detail == "missing parts: 2"
    assert await finish(shop) == 0
    assert [shop.stock(sku).on_hand for sku in "ABC"] == [15, 10, 10], "nothing is applied before all is there"
    assert (await count(shop, {"B": 8, "N": 4}, 20, part=2, parts=3)).outcome == "counting"
    await shop.receive("B", 1, occurred=40)
    assert await finish(shop) == 3
    assert [shop.stock(sku).on_hand for sku in "ABCN"] == [12, 9, 3, 4]
    assert (record(shop).outcome, record(shop).detail) == ("counted", "4 lines applied")
    assert [line.carried for line in record(shop, "c part 1").lines] == [5]


async def test_rule_41_a_repeated_part_is_a_repeat_and_another_body_is_a_conflict(shop: RedisShopClient) -> None:
    shop.advance(seconds=60)
    await count(shop, {"A": 7}, 20, part=1, parts=2)
    assert (await count(shop, {"A": 7}, 20, part=1, parts=2)).result == ("parts_missing", True)
    for lines, seconds, fields in (
        ({"A": 8}, 20, {"part": 1, "parts": 2}),
        ({"B": 8}, 21, {"part": 2, "parts": 2}),
        ({"B": 8}, 20, {"part": 2, "parts": 3}),
        ({"B": 8}, 20, {"part": 2, "parts": 2, "complete": True}),
        ({"B": 8}, 20, {}),
        ({"B": 8, "A": 7}, 20, {"part": 2, "parts": 2}),
    ):
        assert (await count(shop, lines, seconds, **fields)).outcome == "conflict", (lines, seconds, fields)
    assert (await count(shop, {"B": 8}, 20, part=2, parts=2)).outcome == "counting"
    await finish(shop)
    assert (await count(shop, {"B": 8}, 20, part=2, parts=2)).result == ("counted", True)


async def test_rule_41_a_part_that_lists_a_sku_of_another_part_names_the_path(shop: RedisShopClient) -> None:
    shop.advance(seconds=60)
    await count(shop, {"A": 7}, 20, part=1, parts=2)
    await count(shop, {"B": 1, "A": 7}, 20, part=2, parts=2)
    assert shop.driver.decisions[-1].results[0].detail == "lines[1].sku: it is in part 1 too"


async def test_rule_41_a_complete_count_sets_unlisted_skus_to_zero(shop: RedisShopClient) -> None:
    await shop.receive_all(dict.fromkeys("ABCDEFG", 10), occurred=0)
    await shop.receive("X", 10, at="BJ1", occurred=0)
    await shop.adjust("lost", {"G": -10}, occurred=1)
    shop.advance(seconds=60)
    await shop.receive("B", 3, occurred=30)
    await shop.count({"C": 4}, occurred=40)
    assert (await count(shop, {"A": 7}, 20, complete=True)).outcome == "counting"
    moved = iter((("D", 41), ("E", 42), ("F", 43)))

    async def go_on() -> None:
        if (more := next(moved, None)) is not None:
            await shop.receive(more[0], 2, occurred=more[1])

    version = shop.driver.version("G")
    assert await finish(shop, between=go_on) == 6
    assert [shop.stock(sku).on_hand for sku in "ABCDEFGX"] == [7, 3, 4, 2, 2, 2, 0, 10]
    assert shop.driver.version("G") == version, "a SKU at zero is not touched"
    assert record(shop).outcome == "counted"
    assert record(shop).detail == "1 lines applied, 4 SKUs that are not listed set to 0"
    assert (await shop.receive("E", 9, occurred=19)).outcome == "already_counted"


async def test_rule_41_missing_parts_end_in_dead_letters_and_an_alert(shop: RedisShopClient) -> None:
    shop.advance(seconds=60)
    for part, sku in ((1, "A"), (4, "B")):
        await count(shop, {sku: 7}, 20, by_kafka=True, part=part, parts=4)
    shop.advance(seconds=DAY - 41)
    assert await finish(shop) == 0
    shop.advance(seconds=1)
    alerts, letters = [], []

    async def note() -> None:
        alerts.extend(shop.driver.decisions[-1].alerts)
        letters.extend(shop.driver.decisions[-1].refused)

    await finish(shop, between=note)
    assert [(alert.type, alert.warehouse, alert.quantity, alert.detail) for alert in alerts] == [
        ("count_parts_missing", W, 2, "c, missing parts: 2, 3")
    ]
    assert [(letter.reason, letter.origin.raw) for letter in letters] == [("parts_missing", "{}")] * 2
    assert (record(shop).outcome, record(shop).detail) == ("count_too_old", "missing parts: 2, 3")
    assert shop.stock("A").on_hand == 0


async def test_rule_41_lines_of_a_part_that_cannot_be_applied_are_left_out_alone(shop: RedisShopClient) -> None:
    shop.advance(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    await count(shop, {"A": 7, "B": 3}, 20, part=1, parts=1)
    await finish(shop)
    assert [shop.stock(sku).on_hand for sku in "AB"] == [8, 3]
    assert (record(shop).outcome, record(shop).detail) == ("counted_in_part", "1 lines applied, 1 left out")
    assert record(shop, "c part 1").outcome == "counted_in_part"


async def test_rule_41_a_part_is_dated_within_a_day_and_not_ahead(shop: RedisShopClient) -> None:
    shop.advance(seconds=DAY)
    assert (await count(shop, {"A": 7}, -0.001, part=1, parts=2)).outcome == "count_too_old"
    assert (await count(shop, {"A": 7}, DAY + 601, complete=True)).outcome == "occurred_in_future"
    assert (await count(shop, {"A": 7}, DAY, complete=True)).outcome == "counting"
