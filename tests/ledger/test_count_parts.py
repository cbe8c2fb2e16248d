"""Counts in parts, and counts that are complete (rule 41): steps of one count, each as of the count's own time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stocktide.streams.contract.events import CountedLine, StockCounted
from stocktide.tables.ledger.commands import ContinueCounts, Origin, make_command
from stocktide.tables.ledger.records import MovementRecord
from tests.ledger.drivers import CommandReply, RedisDriver
from tests.ledger.ledgers import open_ledger
from tests.ledger.shop_client import OPENING_MS, ShopClient

W = "SH1"
DAY = 86_400
STEPS_MAX = 200


@pytest.fixture
async def shop(server: str) -> Any:
    """An empty shop at the ledger's till: the steps of a count are the ledger's own, and the model has none."""
    async with open_ledger(server) as ledger:
        yield ShopClient(RedisDriver(ledger))


async def say(
    shop: ShopClient, lines: Mapping[str, int], seconds: float, by_kafka: bool = False, **fields: Any
) -> CommandReply:
    """A part, or a complete count, as of so many seconds after the opening."""
    occurred = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=OPENING_MS + round(seconds * 1000))
    counted = tuple(CountedLine(sku, quantity) for sku, quantity in lines.items())
    event = StockCounted(**{"id": "c", "occurred_at": occurred, "warehouse": W, "lines": counted} | fields)
    return await shop.say(make_command(event, Origin("movements", 0, 1, "raw") if by_kafka else None))


async def finish(shop: ShopClient, skus_max: int = 2, between: Any = None) -> int:
    """Every step that is due; how many there were. `between` is called after each."""
    for number in range(STEPS_MAX):
        if (await shop.say(ContinueCounts(skus_max=skus_max))).outcome == "nothing_due":
            return number
        if between is not None:
            await between()
    raise AssertionError("the steps do not end")


def record(shop: ShopClient, id_: str = "c") -> MovementRecord:
    """A movement's record as published."""
    assert isinstance(shop.till, RedisDriver)
    return shop.till.movement(W, id_)


async def test_rule_41_parts_form_one_count_as_of_its_time_once_all_have_arrived(shop: ShopClient) -> None:
    await shop.receive_all({"A": 10, "B": 10, "C": 10}, occurred=0)
    shop.later(seconds=60)
    await shop.receive("A", 5, occurred=30)
    for part, lines in ((3, {"C": 3}), (1, {"A": 7})):
        told = await say(shop, lines, 20, part=part, parts=3)
        assert told.outcome == "parts_missing"
    assert record(shop).detail == "missing parts: 2"
    assert await finish(shop) == 0
    assert [shop.stock(sku).on_hand for sku in "ABC"] == [15, 10, 10], "nothing is applied before all is there"
    told = await say(shop, {"B": 8, "N": 4}, 20, part=2, parts=3)
    assert told.outcome == "counting"
    await shop.receive("B", 1, occurred=40)
    assert await finish(shop) == 3
    assert [shop.stock(sku).on_hand for sku in "ABCN"] == [12, 9, 3, 4]
    assert (record(shop).outcome, record(shop).detail) == ("counted", "4 lines applied")
    assert [line.carried for line in record(shop, "c part 1").lines] == [5]


async def test_rule_41_a_repeated_part_is_a_repeat_and_another_body_is_a_conflict(shop: ShopClient) -> None:
    shop.later(seconds=60)
    await say(shop, {"A": 7}, 20, part=1, parts=2)
    told = await say(shop, {"A": 7}, 20, part=1, parts=2)
    assert (told.outcome, told.replayed) == ("parts_missing", True)
    for lines, seconds, fields in (
        ({"A": 8}, 20, {"part": 1, "parts": 2}),
        ({"B": 8}, 21, {"part": 2, "parts": 2}),
        ({"B": 8}, 20, {"part": 2, "parts": 3}),
        ({"B": 8}, 20, {"part": 2, "parts": 2, "complete": True}),
        ({"B": 8}, 20, {}),
        ({"B": 8, "A": 7}, 20, {"part": 2, "parts": 2}),
    ):
        assert (await say(shop, lines, seconds, **fields)).outcome == "conflict", (lines, seconds, fields)
    assert (await say(shop, {"B": 8}, 20, part=2, parts=2)).outcome == "counting"
    await finish(shop)
    told = await say(shop, {"B": 8}, 20, part=2, parts=2)
    assert (told.outcome, told.replayed) == ("counted", True)


async def test_rule_41_a_part_that_lists_a_sku_of_another_part_names_the_path(shop: ShopClient) -> None:
    shop.later(seconds=60)
    await say(shop, {"A": 7}, 20, part=1, parts=2)
    await say(shop, {"B": 1, "A": 7}, 20, part=2, parts=2)
    assert isinstance(shop.till, RedisDriver)
    assert shop.till.decisions[-1].results[0].detail == "lines[1].sku: it is in part 1 too"


async def test_rule_41_a_complete_count_sets_what_it_does_not_list_to_zero_as_of_its_time(shop: ShopClient) -> None:
    await shop.receive_all(dict.fromkeys("ABCDEFG", 10), occurred=0)
    await shop.receive("X", 10, at="BJ1", occurred=0)
    await shop.adjust("lost", {"G": -10}, occurred=1)
    shop.later(seconds=60)
    await shop.receive("B", 3, occurred=30)
    await shop.count({"C": 4}, occurred=40)
    assert (await say(shop, {"A": 7}, 20, complete=True)).outcome == "counting"
    moved = iter((("D", 41), ("E", 42), ("F", 43)))

    async def go_on() -> None:
        if (more := next(moved, None)) is not None:
            await shop.receive(more[0], 2, occurred=more[1])

    version = shop.till.version("G")
    assert await finish(shop, between=go_on) == 6
    assert [shop.stock(sku).on_hand for sku in "ABCDEFGX"] == [7, 3, 4, 2, 2, 2, 0, 10]
    assert shop.till.version("G") == version, "what is at zero is not touched"
    assert record(shop).outcome == "counted"
    assert record(shop).detail == "1 lines applied, 4 SKUs that are not listed set to 0"
    assert (await shop.receive("E", 9, occurred=19)).outcome == "already_counted"


async def test_rule_41_parts_that_stay_away_end_in_dead_letters_and_an_alert(shop: ShopClient) -> None:
    shop.later(seconds=60)
    for part, sku in ((1, "A"), (4, "B")):
        await say(shop, {sku: 7}, 20, by_kafka=True, part=part, parts=4)
    shop.later(seconds=DAY - 41)
    assert await finish(shop) == 0
    shop.later(seconds=1)
    alerts, letters = [], []

    async def note() -> None:
        assert isinstance(shop.till, RedisDriver)
        alerts.extend(shop.till.decisions[-1].alerts)
        letters.extend(shop.till.decisions[-1].refused)

    await finish(shop, between=note)
    assert [(alert.type, alert.warehouse, alert.quantity, alert.detail) for alert in alerts] == [
        ("count_parts_missing", W, 2, "c, missing parts: 2, 3")
    ]
    assert [(letter.reason, letter.origin.raw) for letter in letters] == [("parts_missing", "raw")] * 2
    assert (record(shop).outcome, record(shop).detail) == ("count_too_old", "missing parts: 2, 3")
    assert shop.stock("A").on_hand == 0


async def test_rule_41_lines_of_a_part_that_cannot_be_applied_are_left_out_alone(shop: ShopClient) -> None:
    shop.later(seconds=60)
    await shop.count({"A": 8}, occurred=30)
    await say(shop, {"A": 7, "B": 3}, 20, part=1, parts=1)
    await finish(shop)
    assert [shop.stock(sku).on_hand for sku in "AB"] == [8, 3]
    assert (record(shop).outcome, record(shop).detail) == ("counted_in_part", "1 lines applied, 1 left out")
    assert record(shop, "c part 1").outcome == "counted_in_part"


async def test_rule_41_a_part_is_dated_within_a_day_and_not_ahead(shop: ShopClient) -> None:
    shop.later(seconds=DAY)
    assert (await say(shop, {"A": 7}, -0.001, part=1, parts=2)).outcome == "count_too_old"
    assert (await say(shop, {"A": 7}, DAY + 601, complete=True)).outcome == "occurred_in_future"
    assert (await say(shop, {"A": 7}, DAY, complete=True)).outcome == "counting"
