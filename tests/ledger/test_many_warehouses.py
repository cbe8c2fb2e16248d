"""SKUs in many warehouses, whose records have totals, are read in part and are written by the number; long movements,
which take several calls."""

from __future__ import annotations

import struct

import pytest

from stocktide.tables.ledger.codes import MANY_WAREHOUSES
from stocktide.tables.ledger.commands import WriteWhole
from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient

pytestmark = ON_VALKEY
MANY = [f"W{number:02d}" for number in range(MANY_WAREHOUSES + 4)]
STEP_BYTES_MAX = 128  # of two new SKUs
KINDS = ("on_hand", "committed", "locked", "damaged")


@pytest.fixture
def limits() -> LedgerLimits:
    """Every SKU in many warehouses is patched, and a movement of three lines is long."""
    return LedgerLimits(wide_rows_bytes_max=0, lines_per_step=2, step_bytes_max=STEP_BYTES_MAX)


@pytest.fixture
async def wide(shop: RedisShopClient) -> RedisShopClient:
    """A in many warehouses: 10 units in the first, 11 in the next, …"""
    await shop.subscribe("tmall")
    for number, warehouse in enumerate(MANY):
        await shop.receive("A", 10 + number, warehouse)
    return shop


async def check(shop: RedisShopClient) -> None:
    """The record in Redis and the totals of the newest patch are what the log adds up to, and so is the whole row."""
    stock = shop.driver.stock("A")
    assert await shop.stored_counters("A") == stock.counters
    patch = shop.driver.decisions[-1].patches.rows[-1]
    for kind in KINDS:
        named = sum(units for name, units in dict(patch.counters).items() if name.startswith(f"{kind}@"))
        assert named + dict(patch.rest).get(f"{kind}@", 0) == stock.total(kind), kind
    await shop.submit(WriteWhole(skus_max=10))
    row = shop.driver.decisions[-1].skus[0]
    assert row.record.counters == stock.counters and row.record.warehouses[: len(MANY)] == tuple(MANY)
    assert shop.offer("A").quantity == max(0, stock.available)


@pytest.mark.parametrize("warehouse", [MANY[0], MANY[7], MANY[-1]], ids=["first", "middle", "last"])
async def test_a_change_in_one_warehouse_is_written_over_its_numbers_alone(
    wide: RedisShopClient, warehouse: str
) -> None:
    before = await wide.key("sku:A")
    await wide.receive("A", 5, warehouse)
    after = await wide.key("sku:A")
    assert before is not None and after is not None and len(before) == len(after)
    differing = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert len(differing) <= 16  # version, sum, units
    await check(wide)
    for command in ({"A": -3}, {"A": 2}):
        await wide.adjust("damages", command, at=warehouse)
        await check(wide)


async def test_a_new_warehouse_is_appended(wide: RedisShopClient) -> None:
    await wide.receive("A", 7, "NEW")
    await check(wide)
    await wide.transfer({"A": 4}, "NEW", "NEWER")
    await check(wide)


@pytest.mark.parametrize("first", [True, False], ids=["the changed one", "another one"])
async def test_all_numbers_are_widened_where_one_needs_eight_bytes(wide: RedisShopClient, first: bool) -> None:
    for _ in range(3):
        await wide.receive("A", 1_000_000_000, MANY[0] if first else MANY[-1])
    packed = await wide.key("sku:A")
    assert packed is not None and packed[2] == 8
    await check(wide)
    await wide.receive("A", 1, MANY[3])
    await check(wide)


async def test_free_units_below_four_bytes_widen_the_record_too(wide: RedisShopClient) -> None:
    for _ in range(3):
        await wide.transfer({"A": 1_000_000_000}, MANY[1], MANY[2])
    assert (await wide.place("o1", {"A": 1_000_000_000})).outcome == "insufficient_stock"  # the sum is still small
    await check_after_order(wide)


async def check_after_order(shop: RedisShopClient) -> None:
    assert await shop.stored_counters("A") == shop.driver.stock("A").counters


async def test_an_order_draws_on_the_first_warehouse_with_the_most_free_units(wide: RedisShopClient) -> None:
    most = 10 + len(MANY) - 1
    for number, warehouse in ((1, MANY[-1]), (2, MANY[-2]), (3, MANY[-1]), (4, MANY[-3])):
        assert (await wide.place(f"o{number}", {"A": 1})).outcome == "reserved"
        assert wide.order(f"o{number}").lines[0].warehouses == {warehouse: 1}
        await check(wide)
    assert (await wide.place("o5", {"A": most})).outcome == "reserved"
    drawn = wide.order("o5").lines[0].warehouses
    assert sum(drawn.values()) == most and len(drawn) > 1
    await wide.cancel("o5")
    await check(wide)


async def test_a_rejected_order_that_supersedes_leaves_the_record_as_it_was(wide: RedisShopClient) -> None:
    await wide.place("o1", {"A": 3})
    await wide.receive("A", 1, MANY[2])
    reply = await wide.place("o2", {"A": 1_000_000}, supersedes="o1")
    assert reply.outcome == "insufficient_stock" and wide.order("o1").state == "reserved"
    await check_after_order(wide)
    await wide.receive("A", 1, MANY[2])
    await check(wide)


async def test_a_record_becomes_one_of_many_warehouses_and_totals_its_numbers(shop: RedisShopClient) -> None:
    for number, warehouse in enumerate(MANY):
        await shop.receive("A", 10 + number, warehouse)
        packed = await shop.key("sku:A")
        assert packed is not None
        total = struct.pack(">q", shop.driver.stock("A").on_hand)
        assert number == 0 or (total in packed) == (number >= MANY_WAREHOUSES)
    assert await shop.stored_counters("A") == shop.driver.stock("A").counters


async def test_a_long_movement_takes_several_calls_and_nobody_sees_it_before_its_last(shop: RedisShopClient) -> None:
    names = {f"s{number}": 5 + number for number in range(5)}
    receipt = shop.receive_command(names, id="r1")
    driver = shop.driver
    first = await driver._decide([receipt], shop.now)
    assert first.results[0].outcome == "applying" and [effect.sku for effect in first.effects] == ["s0", "s1"]
    assert (await shop.ledger.read_movement("SH1", "r1")).value is None
    assert (await shop.submit(receipt)).result == ("received", False)
    read = (await shop.ledger.read_movement("SH1", "r1")).value
    assert read is not None and [(line.sku, line.on_hand) for line in read.lines] == list(names.items())
    assert (await shop.submit(receipt)).result == ("received", True)
    assert (await shop.adjust("damages", {**dict.fromkeys(names, -1), "s4": -3})).outcome == "adjusted"
    assert (await shop.adjust("damages", {**dict.fromkeys(names, 1), "s4": 4})).outcome == "more_than_damaged"
    assert (await shop.adjust("lost", {**dict.fromkeys(names, -1), "unknown": -1})).outcome == "unknown_sku"
    assert (await shop.transfer(dict.fromkeys(names, 1), "SH1", "BJ1")).outcome == "transferred"
    assert (await shop.count(dict.fromkeys(names, 9))).outcome == "counted"
    for sku in names:
        stock = shop.driver.stock(sku)
        assert (stock.total("on_hand", "SH1"), stock.total("on_hand", "BJ1")) == (9, 1)
        assert stock.damaged == (3 if sku == "s4" else 1)
        assert await shop.stored_counters(sku) == stock.counters
