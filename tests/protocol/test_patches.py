"""Batches that say only what they changed of their SKUs: every reader of the journal comes to the state in Redis.

The same random batches as elsewhere, with limits so small that no row of a SKU, or hardly one, is written whole.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.log import MemoryJournal, MemoryLog
from stocktide.streams.journal.record import (
    KIND_BATCH,
    JournalReader,
    JournalRecord,
    decode_record,
    encode_record,
    marker,
)
from stocktide.streams.topics import HOUR_MS
from stocktide.tables.audit.digest import digest_of_redis
from stocktide.tables.audit.findings import find_log_drifts, summarize_log
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.history.sku_history import Inconsistency, SkuHistory
from stocktide.tables.ledger.client import AppliedBatch, Ledger, LedgerLimits
from stocktide.tables.ledger.commands import Command, WriteWhole
from stocktide.tables.ledger.control import LedgerControl, StepRefused
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery
from tests.harness.servers import RedisServer
from tests.ledger.drivers import RedisDriver
from tests.ledger.ledgers import PARK_MS, bless
from tests.ledger.shop_client import ShopClient
from tests.ledger.strategies import TimedBatch, runs
from tests.ledger.test_stateful import EXAMPLES, SEED
from tests.protocol.memory_rows import MemoryRows

# No row is whole; rows are whole as long as they are few.
ROWS_BYTES = (0, 400)
TICKS_MAX = 50
# Longer than any run of batches.
PAST_MS = 3 * HOUR_MS


class JournalingLedger:
    """A ledger whose batches also lie in a journal, as a relay would have written them."""

    def __init__(self, redis: Redis, app_id: str, limits: LedgerLimits) -> None:
        self._ledger = Ledger(redis, app_id, limits)
        self.journal = MemoryJournal([encode_record(marker(1, "first"))])
        self._token = ""

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        """Decide, and write down what was decided."""
        applied = await self._ledger.apply(commands, token=token, now_ms=now_ms)
        if applied.batch:
            record = JournalRecord(KIND_BATCH, 1, "first", applied.batch, token, self._token, applied.payload)
            self.journal.values.append(encode_record(record))
            self._token = token
        return applied


async def _play(url: str, run: list[TimedBatch], limits: LedgerLimits) -> None:
    app_id, other_id = (f"test-{secrets.token_hex(6)}" for _ in range(2))
    async with Redis.from_url(url) as redis:
        await bless(redis, app_id)
        recorded = JournalingLedger(redis, app_id, limits)
        till = RedisDriver(recorded)  # type: ignore[arg-type]
        # Within the retention of final orders, by the server's clock: a replay gives keys the time that is left.
        now = began = now_ms() - PAST_MS
        for passing, drafts in run:
            now += passing
            await till.apply([draft.dated(now) for draft in drafts], now)
        decisions = till.decisions
        fold = JournalFold(limits, began)
        for value in recorded.journal.values[1:]:
            record = decode_record(value)
            assert record is not None
            fold.add(record.payload)
        log, sums = await summarize_log(fold)
        assert await find_log_drifts(fold, sums, None) == {}
        _stories_add_up(till)
        # What a server holds that lost everything: the journal replayed over nothing.
        await _replay(redis, other_id, recorded.journal, limits)
        for each in (app_id, other_id):
            found = await digest_of_redis(redis, each, as_of_ms=began, limits=limits)
            assert found == log, (each == app_id, found.by_kind(), log.by_kind())
        for index in ("skus", "dwells", "deadlines", "patched"):
            indexes = [
                await redis.zrange(key_prefix(each) + index, 0, -1, withscores=True) for each in (app_id, other_id)
            ]
            assert indexes[0] == indexes[1], index
        assert any(decision.patches.rows for decision in decisions) or not any(d.effects for d in decisions)
        await _all_are_whole_in_the_end(redis, till, key_prefix(app_id), now)


def _stories_add_up(till: RedisDriver) -> None:
    for sku in {effect.sku for decision in till.decisions for effect in decision.effects}:
        story = SkuHistory(sku)
        parts = [part for decision in till.decisions for part in story.follow(decision, 1, "first")]
        assert not [part for part in parts if isinstance(part, Inconsistency)]
        assert story.record is not None and story.record.counters == till.stock(sku).counters


async def _replay(redis: Redis, app_id: str, journal: MemoryJournal, limits: LedgerLimits) -> None:
    handover = LedgerControl(redis, app_id)
    seen = await handover.unbless(1)
    assert not isinstance(seen, StepRefused)
    log = MemoryLog(journal)
    reader = JournalReader()
    for offset, value in enumerate(journal.values):
        reader.feed(offset, decode_record(value))
    recovery = Recovery(log, handover, 1, seen, limits, ProgressReporter(lambda _: None))
    await recovery.rebuild(reader.position, MemoryRows(journal))


async def _all_are_whole_in_the_end(redis: Redis, till: RedisDriver, prefix: str, now: int) -> None:
    """Steps write every patched SKU whole; then the index is empty and the newest rows are what Redis holds."""
    for _ in range(TICKS_MAX):
        if not await redis.zcard(prefix + "patched"):
            break
        await till.apply([WriteWhole(skus_max=2)], now)
    assert await redis.zcard(prefix + "patched") == 0
    newest = {row.sku: row.record for decision in till.decisions for row in decision.skus}
    for sku, record in newest.items():
        assert {name: n for name, n in record.counters.items() if n} == till.stock(sku).counters


@pytest.mark.parametrize("rows_bytes", ROWS_BYTES)
def test_every_reader_comes_to_the_state_of_redis_from_patches(valkey: RedisServer, rows_bytes: int) -> None:
    limits = LedgerLimits(park_ms=PARK_MS, whole_rows_bytes_max=rows_bytes)

    @seed(SEED)
    @settings(
        max_examples=max(1, EXAMPLES // 10),
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(run=runs())
    def plays(run: list[TimedBatch]) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(_play(valkey.url, run, limits))
        finally:
            loop.close()

    print(f"STOCKTIDE_TEST_SEED={SEED}")  # noqa: T201
    plays()


async def test_an_explanation_shows_the_totals_of_a_sku_that_was_patched(valkey: RedisServer) -> None:
    app_id = f"test-{secrets.token_hex(6)}"
    async with Redis.from_url(valkey.url) as redis:
        await bless(redis, app_id)
        shop = ShopClient(RedisDriver(Ledger(redis, app_id, LedgerLimits(whole_rows_bytes_max=0))))
        await shop.receive("A", 10, "SH1")
        await shop.receive("A", 5, "BJ1")
        till = shop.till
        assert isinstance(till, RedisDriver)
        story = SkuHistory("A")
        changes = [part for decision in till.decisions for part in story.follow(decision, 1, "first")]
        assert [getattr(part, "view", {}).get("on_hand") for part in changes if hasattr(part, "deltas")] == [10, 15]
