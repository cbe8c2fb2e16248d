"""An audit finds nothing after random batches: the log adds up, and Redis equals the log, key by key."""

from __future__ import annotations

import secrets

from stocktide.streams.contract.times import now_ms
from stocktide.tables.audit.compare import Difference, compare_stored
from stocktide.tables.audit.digest import Kind
from stocktide.tables.audit.findings import find_log_drifts, summarize_log
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.redis_keys import RedisSide, WantedKey, digest_of_redis
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.limits import LedgerLimits
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LOW_LIMITS as LIMITS
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, open_shop
from tests.ledger.strategies import EXAMPLES, TimedBatch, check_random_runs


def test_an_audit_finds_nothing_after_random_batches(valkey: RedisServer) -> None:
    async def check(run: list[TimedBatch]) -> None:
        async with open_shop(valkey.url, LIMITS) as shop:
            fold = JournalFold(LIMITS, OPENING_MS)
            for passing, drafts in run:
                shop.advance(passing / 1000)
                for commands in ([draft.dated(shop.now) for draft in drafts], [Restate(keys_max=10, every_ms=0)]):
                    applied = await shop.ledger.apply(commands, token=secrets.token_hex(8), now_ms=shop.now)
                    if applied.batch:
                        assert fold.add(applied.payload) == applied.batch
                assert await differences(shop, fold) == {}
            log, sums = await summarize_log(fold)
            assert await find_log_drifts(fold, sums, None) == {}
            found = await digest_of_redis(shop.redis, shop.app_id, as_of_ms=OPENING_MS, limits=LIMITS)
            assert found == log, (found.by_kind(), log.by_kind())

    check_random_runs(check, max(1, EXAMPLES // 5))


async def test_a_hold_that_was_given_up_in_vain_leaves_no_dwell_in_the_index(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, LIMITS) as shop:
        await shop.set_policy(safety_threshold=4, below_threshold="suspend", dwell_seconds=5)
        await shop.hold(4, of=8)
        assert (await shop.place("o2", {"A": 100}, supersedes="o1")).outcome == "channel_suspended"
        assert await shop.redis.zscore(f"{shop.prefix}dwells", "A") is None
        await shop.cancel("o1")
        assert await shop.redis.zscore(f"{shop.prefix}dwells", "A") == shop.now + 5_000


async def test_the_digest_leaves_out_keys_that_are_about_to_expire(valkey: RedisServer) -> None:
    limits = LedgerLimits()
    async with open_shop(valkey.url) as shop:
        shop.now = now = now_ms()
        await shop.hold(2, of=1)
        for as_of_ms, orders in ((now, 1), (now + limits.refused_retention_ms - 30_000, 0)):
            digest = await digest_of_redis(shop.redis, shop.app_id, as_of_ms=as_of_ms, limits=limits)
            assert digest.by_kind()["order"]["keys"] == orders and digest.by_kind()["sku"]["keys"] == 1


async def differences(shop: RedisShopClient, fold: JournalFold) -> dict[tuple[Kind, str], tuple[Difference, ...]]:
    """Every key that Redis or the log knows, compared. Records end by the test's clock, keys by the server's."""
    prefix = shop.prefix
    names = [name.decode().removeprefix(prefix) async for name in shop.redis.scan_iter(match=f"{prefix}*")]
    kinds: tuple[Kind, ...] = ("sku", "order", "movement")
    stored = {(kind, name[len(kind) + 1 :]) for kind in kinds for name in names if name.startswith(f"{kind}:")}
    known = {(kind, key) for kind in kinds for key in fold.keys(kind)}
    wanted = [WantedKey(*key) for key in sorted(stored | known)]
    reading = await RedisSide(shop.redis, shop.app_id).read(wanted, deep=True)
    found = {}
    for each, value in zip(wanted, reading.keys, strict=True):
        kept = fold.get(each.kind, each.key)
        record = fold.record(each.kind, each.key)
        differing = compare_stored(each.kind, kept.packed if kept else None, record, value, shop.now, LIMITS)
        if differing:
            found[each.kind, each.key] = differing
    return found
