"""The audit on a real Redis and a journal in memory finds what was spoiled and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from redis.exceptions import ResponseError

from stocktide.ops.audit import UNFINISHED, exit_status
from stocktide.ops.audit_report import report_lines as audit_lines
from stocktide.ops.audit_report import report_of
from stocktide.tables.audit import auditor, tables_pass
from stocktide.tables.derived_rows import PolicyLevel, StoredRow
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import WriteWhole
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.records import OrderRecord, SkuRecord
from tests.protocol.audits import (
    OPENING,
    MemoryTables,
    audit,
    cancel,
    differences_by_key,
    is_clean,
    pay,
    place,
    receive,
    spoil_sku,
)
from tests.protocol.rig import ProtocolRig


async def test_an_audit_of_a_sound_shop_finds_nothing(shop: ProtocolRig) -> None:
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    assert findings.batch == len(OPENING) and findings.whole
    assert findings.sides is not None and findings.sides.log.by_kind()["order"]["keys"] == 5
    assert findings.counts.redis_keys == findings.sides.log.keys and findings.counts.rows
    assert findings.complete and list(audit_lines(findings))[-1] == "no drift" and exit_status(findings) == 0


async def test_a_counter_that_was_changed_is_named_with_both_numbers(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7})
    findings = await audit(shop)
    assert differences_by_key(findings) == {"sku A": {("redis", "counter on_hand@SH1")}}
    (difference,) = findings.drifts[0].differences
    assert (difference.expected, difference.found) == (99, 7)
    assert findings.sides is not None and not findings.sides.agree


async def test_batches_after_a_spoiled_counter_are_named_in_the_log(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7})
    batch = (await shop.submit(place("o6"))).batch
    await shop.submit(place("o7"))
    findings = await audit(shop)
    assert differences_by_key(findings) == {"sku A": {("log", "counter on_hand@SH1")}}
    (drift,) = findings.drifts
    assert drift.since == batch and (drift.differences[0].expected, drift.differences[0].found) == (99, 7)
    assert findings.sides is not None and findings.sides.agree  # they do: all say the same wrong number


async def test_a_hold_without_an_order_is_named_in_the_log(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"locked@BJ1": 4})
    await shop.submit(place("o6"))
    findings = await audit(shop)
    assert differences_by_key(findings) == {"sku A": {("log", "counter locked@BJ1")}}
    assert (findings.drifts[0].differences[0].expected, findings.drifts[0].differences[0].found) == (0, 4)


async def test_a_missing_order_is_named(shop: ProtocolRig) -> None:
    await shop.redis.delete(f"{shop.prefix}order:o1", f"{shop.prefix}order:o4")
    assert differences_by_key(await audit(shop)) == {
        "order o1": {("redis", "record")},
        "order o4": {("redis", "record")},
    }


async def test_missing_and_extra_entries_of_every_index_are_named(shop: ProtocolRig) -> None:
    redis, prefix = shop.redis, shop.prefix
    await redis.zrem(prefix + "deadlines", "o1")
    await redis.zadd(prefix + "deadlines", {"o2": 5, "unknown": 6})
    await redis.zrem(prefix + "held:A", "o1")
    await redis.zadd(prefix + "held:B", {"o3": 5})
    await redis.zadd(prefix + "dwells", {"B": 5})
    await redis.zrem(prefix + "skus", "A")
    await redis.zadd(prefix + "skus", {"ghost": 0})
    assert differences_by_key(await audit(shop)) == {
        "order o1": {("redis", "deadline"), ("redis", "entry in held:A")},
        "order o2": {("redis", "deadline")},
        "order unknown": {("redis", "deadline")},
        "order o3": {("redis", "entry in held:B")},
        "sku B": {("redis", "entry in dwells")},
        "sku A": {("redis", "entry in skus")},
        "sku ghost": {("redis", "entry in skus")},
    }


async def test_a_key_that_the_log_does_not_know_is_named(shop: ProtocolRig) -> None:
    record = OrderRecord("reserved", "jd", 1, 5, 10**15, lines=())
    await shop.redis.set(shop.prefix + "order:ghost", msgspec.msgpack.encode(record))
    await shop.redis.set(shop.prefix + "sku:ghost", b"\x01junk")
    await shop.redis.hset(shop.prefix + "notes", "a", "b")
    await shop.redis.set(shop.prefix + "movement:SH1\nx", b"")
    found = differences_by_key(await audit(shop))
    assert found.keys() == {"order ghost", "sku ghost", "key notes", "movement SH1\nx"}
    assert all(("redis", "record") in each or ("redis", "key") in each for each in found.values())


async def test_an_unreadable_record_and_a_wrong_time_to_live_are_named(shop: ProtocolRig) -> None:
    redis, prefix = shop.redis, shop.prefix
    await redis.set(prefix + "sku:A", b"\xff\xff")
    await redis.delete(prefix + "sku:B")
    await redis.hset(prefix + "sku:B", "a", "b")
    await redis.expire(prefix + "order:o1", 1_000)
    await redis.persist(prefix + "order:o3")
    assert differences_by_key(await audit(shop)) == {
        "sku A": {("redis", "record")},
        "sku B": {("redis", "record")},
        "order o1": {("redis", "time to live, ms")},
        "order o3": {("redis", "time to live, ms")},
    }


async def test_the_registry_is_compared_too(shop: ProtocolRig) -> None:
    key = shop.prefix + "registry"
    registry = msgspec.msgpack.decode(await shop.redis.get(key))
    registry["channels"]["jd"]["policy"]["buffer"] = 9
    await shop.redis.set(key, msgspec.msgpack.encode(registry))
    assert differences_by_key(await audit(shop)) == {"registry ": {("redis", "channels")}}


async def test_a_row_that_differs_or_is_missing_is_named(shop: ProtocolRig) -> None:
    tables = MemoryTables(shop)
    movement = next(key for _, key in movement_keys(shop))
    tables.spoil(
        StoredRow("sku", "A", 14, SkuRecord(9, 9)),
        StoredRow("sku", "B", 10**9, SkuRecord(9, 9)),
        StoredRow("order", "o1", 5, OrderRecord("paid")),
        StoredRow("order", "ghost", 5, OrderRecord("paid")),
        StoredRow("order", "over", 5, OrderRecord("rejected", ended_at=1)),
        StoredRow("policy", "jd", 1, PolicyLevel("jd", None, {"buffer": 2})),
        StoredRow("policy", "jd/A", 0, None),
        lost=(("order", "o2"), ("movement", movement)),
    )
    found = differences_by_key(await audit(shop, tables=tables))
    assert found.keys() == {
        *("order o2", f"movement {movement}", "sku A", "sku B", "order o1", "order ghost", "policy jd", "policy jd/A")
    }
    assert all(side == "table" for each in found.values() for side, _ in each)


def movement_keys(rig: ProtocolRig) -> list[tuple[str, str]]:
    rig.rows.keep()
    return [key for key in rig.rows.known if key[0] == "movement"]


class BeingCompacted(MemoryTables):
    """Tables whose first reading has an old row of a SKU and no newer one, as if Kafka had compacted that one away
    in favour of a row beyond the end of the reading."""

    def __init__(self, rig: ProtocolRig, old: StoredRow) -> None:
        super().__init__(rig)
        self._old: StoredRow | None = old

    async def rows(self, report: Callable[[int, int], None]) -> AsyncIterator[list[StoredRow]]:
        old, self._old = self._old, None
        async for chunk in super().rows(report):
            yield [old if old and (row.kind, row.key) == (old.kind, old.key) else row for row in chunk]


async def test_a_row_that_was_compacted_away_while_all_were_read_is_no_drift(shop: ProtocolRig) -> None:
    shop.rows.keep()
    old = shop.rows.known["sku", "A"]
    await shop.submit(receive("A", 7))
    findings = await audit(shop, tables=BeingCompacted(shop, old))
    assert differences_by_key(findings) == {} and findings.counts.settled_tables == 1


async def test_the_audit_waits_until_a_patched_sku_has_a_whole_row(shop: ProtocolRig) -> None:
    shop.ledger = Ledger(shop.redis, shop.app_id, LedgerLimits(whole_rows_bytes_max=0))
    await shop.submit(receive("A", 7))
    auditing = asyncio.create_task(audit(shop))
    await asyncio.sleep(1)
    assert not auditing.done()
    await shop.submit(WriteWhole(skus_max=10))
    findings = await auditing
    assert is_clean(findings), differences_by_key(findings)


async def test_an_audit_of_some_skus_finds_nothing_of_others(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7})
    await shop.redis.zrem(shop.prefix + "deadlines", "o1")
    found = await audit(shop, "B")
    assert differences_by_key(found) == {"order o1": {("redis", "deadline")}} and found.sides is None
    assert differences_by_key(await audit(shop, "A")).keys() == {"sku A", "order o1"}
    assert differences_by_key(await audit(shop, "unknown")) == {}


class HaltedTables(MemoryTables):
    """Tables that are derived up to their creation and no further."""

    def __init__(self, rig: ProtocolRig) -> None:
        super().__init__(rig)
        self._rows.keep()
        self._rows.keep = lambda: None  # type: ignore[method-assign]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit with short timeouts."""
    monkeypatch.setattr(auditor, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(auditor, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(tables_pass, "SETTLE_TIMEOUT_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("skus", [(), ("A",), ("B",)])
async def test_where_derivation_halts_the_audit_names_the_unchecked_batches(
    shop: ProtocolRig, skus: tuple[str, ...]
) -> None:
    tables = HaltedTables(shop)
    await shop.submit(receive("A", 7))
    findings = await audit(shop, *skus, tables=tables)
    last = len(OPENING) + 1
    assert findings.unchecked == (f"the rows of batches {last} to {last}: they are still to be derived",)
    lines = list(audit_lines(findings))
    assert f"UNCHECKED  {findings.unchecked[0]}" in lines
    assert "no drift" not in lines and "not all could be checked" in lines[-1]
    assert exit_status(findings) == UNFINISHED
    assert report_of(findings)["unchecked"] == list(findings.unchecked)


@pytest.mark.usefixtures("impatient")
async def test_where_settling_halts_the_audit_names_the_unchecked_batches(rig: ProtocolRig) -> None:
    relay = await rig.blessed_relay()
    for command in OPENING:
        await rig.submit(command)
    await relay.stop()
    await rig.ledger.apply([receive("A", 7)], token="never-settled")
    findings = await audit(rig, "B")
    last = len(OPENING) + 1
    assert findings.unchecked == (f"batches {last} to {last}: Redis decided them, and they are not in the journal",)
    assert not findings.drifts and exit_status(findings) == UNFINISHED


async def test_beside_live_traffic_only_spoiled_keys_are_found(shop: ProtocolRig) -> None:
    stop = asyncio.Event()
    placed = 0

    async def trade(trader: int) -> None:
        nonlocal placed
        for number in itertools.count():
            if stop.is_set():
                return
            order_id = f"t{trader}-{number}"
            await shop.submit(place(order_id, ("A", 1), ("C", 1)), receive("C", 3))
            await shop.submit(pay(order_id) if number % 2 else cancel(order_id))
            placed += 1

    traders = [asyncio.create_task(trade(trader)) for trader in range(8)]
    try:
        await asyncio.sleep(0.3)
        for _ in range(5):
            findings = await audit(shop)
            assert is_clean(findings), differences_by_key(findings)
            assert findings.counts.settled_redis
        await shop.redis.zrem(shop.prefix + "deadlines", "o1")
        assert differences_by_key(await audit(shop)) == {"order o1": {("redis", "deadline")}}
    finally:
        stop.set()
        await asyncio.gather(*traders)
    assert placed > 50
    assert differences_by_key(await audit(shop)).keys() == {"order o1"}


async def test_an_unblessed_redis_is_not_audited(shop: ProtocolRig) -> None:
    await shop.redis.hset(shop.prefix + "blessed", "run_id", "another")
    with pytest.raises(ResponseError, match="UNBLESSED"):
        await audit(shop)
