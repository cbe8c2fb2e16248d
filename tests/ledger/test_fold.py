"""Whatever the ledger decides, an audit finds nothing: its log adds up, and Redis holds what the log says, key by key.

`STOCKTIDE_TEST_SEED` repeats a run; `STOCKTIDE_TEST_EXAMPLES` makes it longer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from hypothesis import HealthCheck, Phase, given, seed, settings
from redis.asyncio import Redis

from stocktide.tables.audit.compare import Difference, compare_stored
from stocktide.tables.audit.digest import Kind, digest_of_redis
from stocktide.tables.audit.findings import find_log_drifts, summarize_log
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.redis_keys import RedisSide, WantedKey
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, Restate
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.servers import RedisServer
from tests.ledger.drivers import RedisDriver
from tests.ledger.ledgers import LOW_LIMITS as LIMITS
from tests.ledger.ledgers import bless
from tests.ledger.shop_client import OPENING_MS, ShopClient
from tests.ledger.strategies import TimedBatch, runs
from tests.ledger.test_stateful import EXAMPLES, SEED


@seed(SEED)
@settings(
    max_examples=max(1, EXAMPLES // 3),
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(run=runs())
def _nothing_is_found(url: str, run: list[TimedBatch]) -> None:
    loop = asyncio.new_event_loop()  # not asyncio.run: that would take the loop of the session's fixtures away
    try:
        loop.run_until_complete(_run(url, run))
    finally:
        loop.close()


def test_an_audit_finds_nothing_after_random_batches(valkey: RedisServer) -> None:
    print(f"STOCKTIDE_TEST_SEED={SEED}")  # noqa: T201
    _nothing_is_found(valkey.url)


async def test_a_hold_that_was_given_up_in_vain_leaves_no_dwell_in_the_index(valkey: RedisServer) -> None:
    app_id = f"test-{secrets.token_hex(6)}"
    async with Redis.from_url(valkey.url) as redis:
        await bless(redis, app_id)
        shop = ShopClient(RedisDriver(Ledger(redis, app_id, LIMITS)))
        await shop.policy(safety_threshold=4, below_threshold="suspend", dwell_seconds=5)
        await shop.receive("A", 8)
        await shop.place("o1", {"A": 4})
        assert (await shop.place("o2", {"A": 100}, supersedes="o1")).outcome == "channel_suspended"
        assert await redis.zscore(f"{key_prefix(app_id)}dwells", "A") is None
        await shop.cancel("o1")
        assert await redis.zscore(f"{key_prefix(app_id)}dwells", "A") == shop.now + 5_000


async def _run(url: str, run: list[TimedBatch]) -> None:
    app_id = f"test-{secrets.token_hex(6)}"
    async with Redis.from_url(url) as redis:
        await bless(redis, app_id)
        ledger, fold, now = Ledger(redis, app_id, LIMITS), JournalFold(LIMITS, OPENING_MS), OPENING_MS
        for passing, drafts in run:
            now += passing
            for commands in ([draft.dated(now) for draft in drafts], [Restate(keys_max=10, every_ms=0)]):
                await _decide(ledger, fold, commands, now)
            assert await differences(redis, app_id, fold, now) == {}
        log, sums = await summarize_log(fold)
        assert await find_log_drifts(fold, sums, None) == {}
        found = await digest_of_redis(redis, app_id, as_of_ms=OPENING_MS, limits=LIMITS)
        assert found == log, (found.by_kind(), log.by_kind())


async def _decide(ledger: Ledger, fold: JournalFold, commands: list[Command], now: int) -> None:
    applied = await ledger.apply(commands, token=secrets.token_hex(8), now_ms=now)
    if applied.batch:
        assert fold.add(applied.payload) == applied.batch


async def differences(
    redis: Redis, app_id: str, fold: JournalFold, now: int
) -> dict[tuple[Kind, str], tuple[Difference, ...]]:
    """Every key that Redis or the log knows, compared. Records end by the test's clock, keys by the server's."""
    names = {name.removeprefix(key_prefix(app_id).encode()).decode() async for name in _names(redis, app_id)}
    kinds: tuple[Kind, ...] = ("sku", "order", "movement")
    stored = {(kind, name[len(kind) + 1 :]) for kind in kinds for name in names if name.startswith(f"{kind}:")}
    known = {(kind, key) for kind in kinds for key in fold.keys(kind)}
    wanted = [WantedKey(*key) for key in sorted(stored | known)]
    reading = await RedisSide(redis, app_id).read(wanted, deep=True)
    found = {}
    for each, value in zip(wanted, reading.keys, strict=True):
        kept = fold.get(each.kind, each.key)
        record = fold.record(each.kind, each.key)
        differing = compare_stored(each.kind, kept.packed if kept else None, record, value, now, LIMITS)
        if differing:
            found[each.kind, each.key] = differing
    return found


async def _names(redis: Redis, app_id: str) -> AsyncIterator[bytes]:
    async for name in redis.scan_iter(match=f"{key_prefix(app_id)}*"):
        yield name
