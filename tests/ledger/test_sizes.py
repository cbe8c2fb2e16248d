"""Rule 39 in the ledger: a batch knows its size before it writes, and steps over many keys are bounded in bytes."""

from __future__ import annotations

import msgspec
import pytest

from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, Restate, WriteWhole
from stocktide.tables.ledger.limits import LedgerLimits
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import RedisShopClient, open_shop

LONG = "x" * 120

pytestmark = ON_VALKEY


async def stored_keys(shop: RedisShopClient) -> dict[bytes, bytes | None]:
    """Every key of the shard, as it is stored."""
    return {name: await shop.redis.dump(name) async for name in shop.redis.scan_iter(shop.prefix + "*")}


async def store(shop: RedisShopClient, key: str, record: object) -> None:
    await shop.redis.set(shop.prefix + key, msgspec.msgpack.encode(record))


async def test_a_batch_that_is_too_large_writes_nothing_and_its_halves_are_decided(
    shop: RedisShopClient, valkey: RedisServer
) -> None:
    lines = {f"s{number}": 10 for number in range(100)}
    await shop.receive_all(dict.fromkeys(lines, 100))
    await shop.place("o1", lines)
    size = len((await shop.redis.xrevrange(f"{shop.prefix}outbox", count=1))[0][1][b"payload"])
    limits = LedgerLimits(payload_bytes_max=size + size // 10)
    async with open_shop(valkey.url, limits) as shop:
        for part in (range(50), range(50, 100)):  # the record of a movement is longer than that of an order
            await shop.receive_all({f"s{number}": 100 for number in part})
        before = await stored_keys(shop)
        both: list[Command] = [shop.place_command("o1", lines), shop.place_command("o2", lines)]
        with pytest.raises(TooLarge):
            await shop.submit_all(*both)
        assert await stored_keys(shop) == before
        for command in both:
            assert (await shop.submit(command)).outcome == "reserved"


async def test_a_batch_that_reads_too_much_is_divided_before_it_decides(shop: RedisShopClient) -> None:
    # One SKU in so many warehouses with long names has a record of some 200 KB.
    for sku in [f"s{number}" for number in range(60)]:
        record = {"version": 0, "at": 0, "warehouses": [f"{number}{LONG}" for number in range(1_500)]}
        await store(shop, f"sku:{sku}", record)
    with pytest.raises(TooLarge):
        await shop.submit_all(*(shop.place_command(f"o{number}", {f"s{number}": 1}) for number in range(60)))
    assert (await shop.place("o1", {"s1": 1})).outcome == "insufficient_stock"


async def test_a_sku_is_in_as_many_warehouses_as_its_rows_can_name_and_in_no_more(shop: RedisShopClient) -> None:
    record = {"version": 0, "at": 0, "warehouses": [f"W{number}" for number in range(2_000)]}
    await store(shop, "sku:A", record)
    assert (await shop.receive("A", 1, "W-one-more")).outcome == "too_large"
    assert (await shop.receive("A", 1, "W7")).outcome == "received"


async def test_channels_and_policies_are_bounded_and_a_rejected_order_has_the_reason(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    wide = tuple(f"{number}{LONG}" for number in range(256))
    outcomes = [(await shop.set_policy(f"c{number}", warehouses=wide)).outcome for number in range(40)]
    assert outcomes[0] == "policy_set" and outcomes[-1] == "too_large"
    names = [f"c{number}" for number in range(1_000)]
    registry = {"names": names, "channels": {name: {"known_at": 1} for name in names}}
    await store(shop, "registry", registry)
    assert (await shop.place("o1", {"A": 1}, channel="one-more")).outcome == "too_many_channels"
    assert (await shop.subscribe("one-more")).outcome == "too_many_channels"
    assert (await shop.place("o1", {"A": 1}, channel="c900")).outcome == "reserved"


async def test_one_tick_ends_at_most_two_of_the_largest_orders(shop: RedisShopClient) -> None:
    lines = {f"s{number:04d}": 1 for number in range(2_000)}
    await shop.receive_all(dict.fromkeys(lines, 20))
    for number in range(8):
        assert (await shop.place(f"o{number}", lines, hold_seconds=10)).outcome == "reserved"
    shop.advance(seconds=60)
    sizes = []
    while (await shop.tick()).outcome == "expired":
        sizes.append(sum(1 for order in shop.driver.decisions[-1].orders if order.changed))
    assert sum(sizes) == 8 and max(sizes) <= 2
    assert shop.driver.stock("s0000").locked == 0


async def test_requests_for_approval_end_in_bounded_steps_and_are_decided_whole(shop: RedisShopClient) -> None:
    lines = {f"s{number:04d}": 1 for number in range(2_000)}
    await shop.receive_all(dict.fromkeys(lines, 20))
    for number in range(8):
        assert (await shop.force(f"o{number}", lines)).outcome == "parked"
    assert (await shop.approve("o7")).outcome == "reserved"
    assert shop.driver.stock("s1999").locked == 1
    shop.advance(minutes=60)
    sizes = []
    while (await shop.tick()).outcome == "expired":
        sizes.append(sum(1 for order in shop.driver.decisions[-1].orders if order.changed))
    assert sum(sizes) == 8 and max(sizes) <= 2, "seven requests, and the hold of the other"
    assert not await shop.index("approvals") and not await shop.index("deadlines")


async def test_a_page_of_restated_rows_is_bounded_and_a_pass_has_every_row_once(shop: RedisShopClient) -> None:
    names = [f"s{number}" for number in range(30)]
    for sku in names:
        warehouses = [f"{number}{LONG}" for number in range(1_000)]
        await store(shop, f"sku:{sku}", {"version": 0, "at": 0, "warehouses": warehouses})
    decisions = shop.driver.decisions
    before = len(decisions)
    while len(decisions) == before or not (decisions[-1].results[0].detail or "").startswith(("ended", "whole")):
        assert (await shop.submit(Restate(keys_max=500, every_ms=0))).outcome == "restated"
    pages = decisions[before:]
    assert sorted(row.sku for page in pages for row in page.skus) == sorted(names)
    assert len(pages) >= 4


async def test_alerts_of_a_batch_are_bounded_and_one_of_them_counts_the_others(shop: RedisShopClient) -> None:
    channels = [f"c{number}-{LONG}" for number in range(40)]
    for channel in channels:
        await shop.set_policy(channel, safety_threshold=5, below_threshold="suspend")
    lines = {f"s{number}-{LONG}": 10 for number in range(120)}
    await shop.receive_all(lines)
    for sku in lines:
        await shop.adjust("lost", {sku: -1})
    await shop.adjust("lost", dict.fromkeys(lines, -8))
    alerts = shop.driver.decisions[-1].alerts
    assert sum(len(alert.sku) + len(alert.channel or "") for alert in alerts) < 1_100_000
    left_out = [alert.quantity for alert in alerts if alert.type == "alerts_omitted"]
    assert sum(1 for alert in alerts if alert.type == "low_stock") + sum(n or 0 for n in left_out) >= 40 * 120


@pytest.mark.parametrize("limits", [LedgerLimits(whole_rows_bytes_max=0)], ids=["patches"])
async def test_patched_skus_are_written_whole_in_bounded_steps(shop: RedisShopClient) -> None:
    await shop.receive_all({f"s{number}": 3 for number in range(50)})
    assert not shop.driver.decisions[-1].skus and len(shop.driver.decisions[-1].patches.rows) == 50
    assert await shop.redis.zcard(f"{shop.prefix}patched") == 50
    await shop.submit(WriteWhole(skus_max=30))
    assert len(shop.driver.decisions[-1].skus) == 30 and await shop.redis.zcard(f"{shop.prefix}patched") == 20
    await shop.submit(WriteWhole(skus_max=30))
    assert await shop.redis.exists(f"{shop.prefix}patched") == 0
    assert (await shop.submit(WriteWhole(skus_max=30))).outcome == "nothing_due"


async def test_units_beyond_four_bytes_are_kept_and_sold(shop: RedisShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend")
    for warehouse in ("SH1", "SH1", "SH1", "BJ1"):
        await shop.receive("A", 1_000_000_000, warehouse)
    assert (await shop.place("o1", {"A": 7})).outcome == "reserved"
    wide = {"on_hand@SH1": 3_000_000_000, "on_hand@BJ1": 1_000_000_000, "locked@SH1": 7}
    assert await shop.stored_counters("A") == shop.driver.stock("A").counters == wide
    assert shop.offer("A").quantity == 3_999_999_993
    for _ in range(3):
        await shop.adjust("lost", {"A": -1_000_000_000})
    assert await shop.stored_counters("A") == {"on_hand@BJ1": 1_000_000_000, "locked@SH1": 7}
