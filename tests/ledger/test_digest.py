"""The digest of a Redis that a ledger wrote, and of one that was written again."""

from __future__ import annotations

from importlib.resources import files

from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms
from stocktide.tables.audit.redis_keys import digest_of_redis
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.recovery.redo import Writes
from tests.ledger.ledgers import bless
from tests.ledger.shop_client import RedisShopClient


async def test_a_redis_that_was_written_again_from_the_log_has_the_same_digest(redis: Redis) -> None:
    shop = RedisShopClient(redis)
    first, second = shop.app_id, f"{shop.app_id}-again"
    await bless(redis, first)
    shop.now = now_ms()
    await shop.set_policy("jd", buffer=1)
    await shop.set_policy("jd", sku="B")
    await shop.hold(2, of=10, channel="jd")
    await shop.place("o2", {"A": 20})
    await shop.pay("o3", by_kafka=True)
    await shop.cancel("o1")
    await shop.place("o4", {"A": 1})

    writes = Writes(LedgerLimits())
    for _, fields in await redis.xrange(key_prefix(first) + "outbox"):
        writes.add(fields[b"payload"])
    names, *values = writes.packed()
    includes = files("stocktide.tables.ledger") / "lua" / "includes"
    rewrite = "".join((includes / f"{name}.lua").read_text("utf-8") for name in ("move_keys", "rewrite"))
    await redis.eval(rewrite + "rewrite(KEYS[1], ARGV[1], 2)", 1, key_prefix(second), names, *values)

    found = await digest_of_redis(redis, first)
    assert found.by_kind()["order"]["keys"] == 3 and found.by_kind()["parked"]["keys"] == 1
    again = await digest_of_redis(redis, second)
    assert found == again, (found.by_kind(), again.by_kind())

    await redis.set(key_prefix(second) + "sku:A", await redis.get(key_prefix(second) + "sku:B") or b"")
    assert await digest_of_redis(redis, second) != found


async def test_the_digest_leaves_out_keys_that_are_about_to_expire(redis: Redis) -> None:
    shop = RedisShopClient(redis)
    await bless(redis, shop.app_id)
    shop.now = now = now_ms()
    await shop.hold(2, of=1)
    limits = LedgerLimits()
    for as_of_ms, orders in ((now, 1), (now + limits.refused_retention_ms - 30_000, 0)):
        digest = await digest_of_redis(redis, shop.app_id, as_of_ms=as_of_ms, limits=limits)
        assert digest.by_kind()["order"]["keys"] == orders and digest.by_kind()["sku"]["keys"] == 1
