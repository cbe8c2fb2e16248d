"""Batches with patches of SKUs instead of whole rows: every reader of the journal comes to the state of Redis.

The random batches of the ledger tests, under limits so low that few rows of SKUs, or none, are written whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.record import (
    KIND_BATCH,
    JournalReader,
    JournalRecord,
    decode_record,
    encode_record,
    marker,
)
from stocktide.streams.topics import HOUR_MS
from stocktide.tables.audit.findings import find_log_drifts, summarize_log
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.redis_keys import digest_of_redis
from stocktide.tables.history.sku_history import Inconsistency, SkuChange, SkuHistory
from stocktide.tables.ledger.client import AppliedBatch, Ledger
from stocktide.tables.ledger.commands import Command, WriteWhole
from stocktide.tables.ledger.control import LedgerControl, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.harness.servers import RedisServer
from tests.ledger.drivers import RedisDriver
from tests.ledger.ledgers import PARK_MS, bless, many_warehouses
from tests.ledger.shop_client import RedisShopClient, open_shop
from tests.ledger.strategies import EXAMPLES, TimedBatch, check_random_runs
from tests.protocol.memory_rows import MemoryRows

# No row is whole; rows are whole as long as they are few.
ROWS_BYTES = (0, 60)
TICKS_MAX = 50
# Longer than any run of batches.
PAST_MS = 3 * HOUR_MS


class JournalingLedger:
    """A ledger whose batches are also in a journal, as a relay writes them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.journal = MemoryJournal([encode_record(marker(1, "first"))])
        self._token = ""

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        applied = await self._ledger.apply(commands, token=token, now_ms=now_ms)
        if applied.batch:
            record = JournalRecord(KIND_BATCH, 1, "first", applied.batch, token, self._token, applied.payload)
            self.journal.values.append(encode_record(record))
            self._token = token
        return applied


async def _check(url: str, run: list[TimedBatch], limits: LedgerLimits) -> None:
    async with Redis.from_url(url) as redis:
        shop = RedisShopClient(redis, limits)
        await bless(redis, shop.app_id)
        journaling = JournalingLedger(shop.ledger)
        shop.driver = driver = RedisDriver(journaling)  # type: ignore[arg-type]
        # Within the retention of final orders, by the server's clock: a redo gives keys the time that is left.
        shop.now = began = now_ms() - PAST_MS
        for passing, drafts in run:
            shop.advance(passing / 1000)
            await shop.submit_all(*(draft.dated(shop.now) for draft in drafts))
        decisions = driver.decisions
        fold = JournalFold(limits, began)
        for value in journaling.journal.values[1:]:
            record = decode_record(value)
            assert record is not None
            fold.add(record.payload)
        log, sums = await summarize_log(fold)
        assert await find_log_drifts(fold, sums, None) == {}
        _histories_add_up(driver)
        # The state of an empty server after the whole journal was redone.
        other_id = f"{shop.app_id}-redone"
        await _redo(redis, other_id, journaling.journal, limits)
        for each in (shop.app_id, other_id):
            found = await digest_of_redis(redis, each, as_of_ms=began, limits=limits)
            assert found == log, (each == shop.app_id, found.by_kind(), log.by_kind())
        for index in ("skus", "dwells", "pools", "deadlines", "patched"):
            redone = dict(await redis.zrange(key_prefix(other_id) + index, 0, -1, withscores=True))
            assert redone == await shop.index(index), index
        if limits.whole_rows_bytes_max in ROWS_BYTES:
            assert any(decision.patches.rows for decision in decisions) or not any(d.effects for d in decisions)
        await _all_are_whole_in_the_end(shop)


def _histories_add_up(driver: RedisDriver) -> None:
    for sku in {effect.sku for decision in driver.decisions for effect in decision.effects}:
        story = SkuHistory(sku)
        parts = [part for decision in driver.decisions for part in story.follow(decision, 1, "first")]
        assert not [part for part in parts if isinstance(part, Inconsistency)]
        assert story.record is not None and story.record.counters == driver.stock(sku).counters


async def _redo(redis: Redis, app_id: str, journal: MemoryJournal, limits: LedgerLimits) -> None:
    control = LedgerControl(redis, app_id)
    seen = await control.unbless(1)
    assert not isinstance(seen, StepRefused)
    log = MemoryLog(journal)
    reader = JournalReader()
    for offset, value in enumerate(journal.values):
        reader.feed(offset, decode_record(value))
    recovery = Recovery(log, control, 1, seen, limits, ProgressReporter(lambda _: None))
    await recovery.rebuild(reader.position, MemoryRows(journal))


async def _all_are_whole_in_the_end(shop: RedisShopClient) -> None:
    """Steps write every patched SKU whole; then the index is empty, and the newest rows are those of Redis."""
    for _ in range(TICKS_MAX):
        if not await shop.index("patched"):
            break
        await shop.submit(WriteWhole(skus_max=2))
    assert await shop.index("patched") == {}
    newest = {row.sku: row.record for decision in shop.driver.decisions for row in decision.skus}
    for sku, record in newest.items():
        assert {name: n for name, n in record.counters.items() if n} == shop.stock(sku).counters


@pytest.mark.parametrize("rows_bytes", ROWS_BYTES)
def test_every_reader_comes_to_the_state_of_redis_from_patches(valkey: RedisServer, rows_bytes: int) -> None:
    limits = LedgerLimits(park_ms=PARK_MS, whole_rows_bytes_max=rows_bytes, fill_orders_max=2)

    check_random_runs(lambda run: _check(valkey.url, run, limits), max(1, EXAMPLES // 10))


def test_every_reader_comes_to_the_state_of_redis_from_patches_of_skus_in_many_warehouses(valkey: RedisServer) -> None:
    with many_warehouses(1):
        limits = LedgerLimits(park_ms=PARK_MS, wide_rows_bytes_max=0, fill_orders_max=2)
        check_random_runs(lambda run: _check(valkey.url, run, limits), max(1, EXAMPLES // 10))


async def test_an_explanation_shows_the_totals_of_a_sku_that_was_patched(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, LedgerLimits(whole_rows_bytes_max=0)) as shop:
        await shop.receive("A", 10, "SH1")
        await shop.receive("A", 5, "BJ1")
        story = SkuHistory("A")
        changes = [part for decision in shop.driver.decisions for part in story.follow(decision, 1, "first")]
        assert [part.view.on_hand for part in changes if isinstance(part, SkuChange)] == [10, 15]
