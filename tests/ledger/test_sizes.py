"""Rule 39 in the ledger: a batch knows its size before it writes, and steps over many keys are bounded in bytes."""

from __future__ import annotations

import secrets

import msgspec
import pytest
from redis.asyncio import Redis

from stocktide.tables.ledger.client import Ledger, LedgerLimits, TooLarge
from stocktide.tables.ledger.commands import Command, Restate, WriteWhole
from stocktide.tables.ledger.records import Decision
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.servers import RedisServer
from tests.ledger.drivers import RedisDriver
from tests.ledger.ledgers import bless
from tests.ledger.shop_client import ShopClient

LONG = "x" * 120


async def shop_of(redis: Redis, **limits: int) -> tuple[ShopClient, RedisDriver, str]:
    """A shop on a ledger of its own, with limits."""
    app_id = f"test-{secrets.token_hex(6)}"
    await bless(redis, app_id)
    till = RedisDriver(Ledger(redis, app_id, LedgerLimits(**limits)))
    return ShopClient(till), till, key_prefix(app_id)


async def everything(redis: Redis, prefix: str) -> dict[bytes, bytes | None]:
    """Every key of the shard, as it is stored."""
    return {name: await redis.dump(name) async for name in redis.scan_iter(prefix + "*")}


async def test_a_batch_that_is_too_large_writes_nothing_and_each_half_of_it_is_decided(valkey: RedisServer) -> None:
    lines = {f"s{number}": 10 for number in range(100)}
    async with Redis.from_url(valkey.url) as redis:
        shop, _, prefix = await shop_of(redis)
        await shop.receive_all(dict.fromkeys(lines, 100))
        await shop.batch(shop.placed("o1", lines))
        size = len((await redis.xrevrange(f"{prefix}outbox", count=1))[0][1][b"payload"])
        shop, _, prefix = await shop_of(redis, payload_bytes_max=size + size // 10)
        await shop.receive_all(dict.fromkeys(lines, 100))
        before = await everything(redis, prefix)
        both: list[Command] = [shop.placed("o1", lines), shop.placed("o2", lines)]
        with pytest.raises(TooLarge):
            await shop.batch(*both)
        assert await everything(redis, prefix) == before
        for command in both:
            assert (await shop.batch(command))[0].outcome == "reserved"


async def test_a_batch_that_reads_too_much_is_divided_before_it_decides(valkey: RedisServer) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, _, prefix = await shop_of(redis)
        # One SKU in so many warehouses with long names has a record of some 200 KB.
        for sku in [f"s{number}" for number in range(60)]:
            record = {"version": 0, "at": 0, "warehouses": [f"{number}{LONG}" for number in range(1_500)]}
            await redis.set(f"{prefix}sku:{sku}", _packed(record))
        with pytest.raises(TooLarge):
            await shop.batch(*(shop.placed(f"o{number}", {f"s{number}": 1}) for number in range(60)))
        assert (await shop.batch(shop.placed("o1", {"s1": 1})))[0].outcome == "insufficient_stock"


async def test_a_sku_is_in_as_many_warehouses_as_its_rows_can_name_and_in_no_more(valkey: RedisServer) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, _, prefix = await shop_of(redis)
        record = {"version": 0, "at": 0, "warehouses": [f"W{number}" for number in range(2_000)]}
        await redis.set(f"{prefix}sku:A", _packed(record))
        refused = await shop.receive("A", 1, "W-one-more")
        assert refused.outcome == "too_large"
        assert (await shop.receive("A", 1, "W7")).outcome == "received"


async def test_channels_and_their_policies_are_bounded_and_an_order_says_why_it_is_rejected(
    valkey: RedisServer,
) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, _, prefix = await shop_of(redis)
        await shop.receive("A", 5)
        wide = tuple(f"{number}{LONG}" for number in range(256))
        outcomes = [(await shop.policy(f"c{number}", warehouses=wide)).outcome for number in range(40)]
        assert outcomes[0] == "policy_set" and outcomes[-1] == "too_large"
        names = [f"c{number}" for number in range(1_000)]
        registry = {"names": names, "channels": {name: {"known_at": 1} for name in names}}
        await redis.set(f"{prefix}registry", _packed(registry))
        assert (await shop.place("o1", {"A": 1}, channel="one-more")).outcome == "too_many_channels"
        assert (await shop.subscribe("one-more")).outcome == "too_many_channels"
        assert (await shop.place("o1", {"A": 1}, channel="c900")).outcome == "reserved"


async def test_one_tick_ends_about_as_much_as_one_large_order_says(valkey: RedisServer) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, till, _ = await shop_of(redis)
        lines = {f"s{number:04d}": 1 for number in range(2_000)}
        await shop.receive_all(dict.fromkeys(lines, 20))
        for number in range(8):
            assert (await shop.place(f"o{number}", lines, hold_seconds=10)).outcome == "reserved"
        shop.later(seconds=60)
        sizes = []
        while (await shop.tick()).outcome == "expired":
            sizes.append(sum(1 for order in till.decisions[-1].orders if order.changed))
        assert sum(sizes) == 8 and max(sizes) <= 2
        assert till.stock("s0000").locked == 0


async def test_a_page_of_restated_rows_is_bounded_in_bytes_and_a_pass_holds_every_row_once(
    valkey: RedisServer,
) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, till, prefix = await shop_of(redis)
        names = [f"s{number}" for number in range(30)]
        for sku in names:
            warehouses = [f"{number}{LONG}" for number in range(1_000)]
            await redis.set(f"{prefix}sku:{sku}", _packed({"version": 0, "at": 0, "warehouses": warehouses}))
        restated: list[str] = []
        pages = 0
        while True:
            (told,) = await till.apply([Restate(keys_max=500, every_ms=0)], shop.now)
            assert told.outcome == "restated"
            decision: Decision = till.decisions[-1]
            restated += [row.sku for row in decision.skus]
            pages += 1
            if (decision.results[0].detail or "").startswith(("ended", "whole")):
                break
        assert sorted(restated) == sorted(names)
        assert pages >= 4


async def test_alerts_of_a_batch_are_bounded_and_one_of_them_counts_the_others(valkey: RedisServer) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, till, _ = await shop_of(redis)
        channels = [f"c{number}-{LONG}" for number in range(40)]
        for channel in channels:
            await shop.policy(channel, safety_threshold=5, below_threshold="suspend")
        lines = {f"s{number}-{LONG}": 10 for number in range(120)}
        await shop.receive_all(lines)
        for sku in lines:
            await shop.adjust("lost", {sku: -1})
        await shop.adjust("lost", dict.fromkeys(lines, -8))
        alerts = till.decisions[-1].alerts
        assert sum(len(alert.sku) + len(alert.channel or "") for alert in alerts) < 1_100_000
        left_out = [alert.quantity for alert in alerts if alert.type == "alerts_omitted"]
        assert sum(1 for alert in alerts if alert.type == "low_stock") + sum(n or 0 for n in left_out) >= 40 * 120


async def test_patched_skus_are_written_whole_in_bounded_steps(valkey: RedisServer) -> None:
    async with Redis.from_url(valkey.url) as redis:
        shop, till, prefix = await shop_of(redis, whole_rows_bytes_max=0)
        await shop.receive_all({f"s{number}": 3 for number in range(50)})
        assert not till.decisions[-1].skus and len(till.decisions[-1].patches.rows) == 50
        assert await redis.zcard(f"{prefix}patched") == 50
        await till.apply([WriteWhole(skus_max=30)], shop.now)
        assert len(till.decisions[-1].skus) == 30 and await redis.zcard(f"{prefix}patched") == 20
        await till.apply([WriteWhole(skus_max=30)], shop.now)
        assert await redis.exists(f"{prefix}patched") == 0
        (told,) = await till.apply([WriteWhole(skus_max=30)], shop.now)
        assert told.outcome == "nothing_due"


def _packed(record: object) -> bytes:
    return msgspec.msgpack.encode(record)
