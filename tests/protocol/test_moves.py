"""Late counts after a recovery (rule 41): the moves of the last day survive a lost tail and an empty Redis."""

from __future__ import annotations

import msgspec

from stocktide.streams.contract.times import now_ms
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, ContinueCounts, Count
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import fingerprint
from stocktide.tables.ledger.records import Decision, SkuRecord
from tests.protocol.audits import audit
from tests.protocol.rig import ProtocolRig, receive
from tests.protocol.shard_copy import ShardCopy, age_out_to_whole_pass, recover, restate_all, state_of

HOUR_MS = 3_600_000


def counted(at: int, units: int, movement_id: str = "count") -> Command:
    lines = (("cup", units),)
    return Count(id=movement_id, warehouse="SH1", at=at, lines=lines, fingerprint=fingerprint("count", lines, at))


def on_hand(decision: Decision) -> int:
    return decision.skus[0].record.counters["on_hand@SH1"]


async def move(rig: ProtocolRig, name: str, now: int) -> None:
    """Movements of many hours, minutes and ms; 11 of its units move after two hours ago."""
    ages = (23 * HOUR_MS, 7 * HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS - 1, 61_000, 1_000, 0)
    for number, age in enumerate(ages):
        await rig.submit(receive(f"{name}-{number}", units=2 + (number == 3) * 3, at=now - age))
    await rig.submit(receive(f"{name}-elsewhere", units=50, at=now - 5, warehouse="BJ1"))


async def test_rule_41_a_count_is_exact_after_redo(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await move(rig, "kept", now)
    older = await ShardCopy(rig).take()
    await move(rig, "lost", now)
    wanted = await state_of(rig)
    assert await recover(rig, older) == wanted
    decision = await rig.submit(counted(now - 2 * HOUR_MS, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 122)


async def test_rule_41_a_count_is_exact_after_a_rebuild_from_rows(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await move(rig, "old", now)
    rig.rows.keep()
    await restate_all(rig)
    await move(rig, "new", now)
    rig.rows.keep()
    assert rig.rows.whole is not None
    wanted = await state_of(rig)
    assert await recover(rig) == wanted
    decision = await rig.submit(counted(now - 2 * HOUR_MS, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 122)


async def test_rule_41_after_a_rebuild_from_rows_alone_only_a_new_count_is_accepted(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await move(rig, "old", now)
    await restate_all(rig)
    age_out_to_whole_pass(rig)
    await recover(rig)
    refused = await rig.submit(counted(now - 2 * HOUR_MS, 100, "older"))
    assert refused.results[0].outcome == "count_too_old"
    decision = await rig.submit(counted(now_ms(), 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 100)


async def test_an_older_versions_history_is_carried_over_once(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await rig.submit(receive("opening", units=10, at=now - 20 * HOUR_MS))
    await _write_older_record(rig, now)
    taken = await rig.submit(receive("next", units=1, at=now - 500))
    assert {(move.at, move.units) for move in taken.moves} == {(now - 60_000, 5), (now - 1_000, -2), (now - 500, 1)}
    assert taken.skus[0].record.history == ""
    refused = await rig.submit(counted(now - 15 * 60_000 - 1, 7, "older"))
    assert refused.results[0].outcome == "count_too_old"
    decision = await rig.submit(counted(now - 30_000, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 99)


async def test_an_older_versions_history_is_carried_over_one_warehouse_at_a_time(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    rig.ledger = Ledger(rig.redis, rig.app_id, LedgerLimits(whole_rows_bytes_max=0))
    now = now_ms()
    await rig.submit(receive("opening", units=10, at=now - 20 * HOUR_MS))
    text = "\n".join(f"{name} - - {now - 60_000} 5" for name in ("BJ1", "SH1", "SH10"))
    older = {"version": 1, "at": now, "warehouses": ["BJ1", "SH1", "SH10"], "history": text}
    await rig.redis.set(rig.prefix + "sku:cup", msgspec.msgpack.encode(older | {"counters": {"on_hand@SH1": 10}}))
    taken = await rig.submit(receive("next", units=1, at=now - 500))
    assert [(move.warehouse, move.units) for move in taken.moves] == [("SH1", 5), ("SH1", 1)]
    left = "\n".join(line for line in text.split("\n") if not line.startswith("SH1 "))
    (patch,) = taken.patches.rows
    assert patch.apply_to(SkuRecord(1, now, history=text), ()).history == left
    record = (await rig.ledger.read_sku("cup")).value
    assert record is not None and record[0].history == left


async def test_a_time_far_ahead_in_an_older_versions_history_stops_no_count(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await rig.submit(receive("opening", units=10, at=now - 20 * HOUR_MS))
    await _write_older_record(rig, now + 70 * 365 * 24 * HOUR_MS)
    decision = await rig.submit(counted(now_ms(), 100))
    assert decision.results[0].outcome == "counted"
    decision = await rig.submit(receive("later", units=1, at=now_ms() + 60_000))
    assert (decision.results[0].outcome, on_hand(decision)) == ("received", 101)


async def _write_older_record(rig: ProtocolRig, now: int) -> None:
    """Put the record of the SKU as the version before this one would have kept it."""
    record = (await rig.ledger.read_sku("cup")).value
    assert record is not None
    text = f"SH1 {now - 25 * 60_000} {now - 15 * 60_000} {now - 60_000} 5 {now - 1_000} -2"
    older = {"version": record[0].version, "at": record[0].at, "warehouses": ["SH1"], "history": text}
    counters = {"on_hand@SH1": 10}
    await rig.redis.set(rig.prefix + "sku:cup", msgspec.msgpack.encode(older | {"counters": counters}))


def part_of(number: int, sku: str, at: int) -> Command:
    """One of three parts of a count."""
    lines = ((sku, 4),)
    mark = fingerprint("count", lines, at, number)
    return Count(id="whole", warehouse="SH1", at=at, lines=lines, fingerprint=mark, part=number, parts=3, complete=True)


async def _steps(rig: ProtocolRig, most: int) -> int:
    for number in range(most):
        decision = await rig.ledger.apply([ContinueCounts(skus_max=1)], token=f"step-{now_ms()}-{number}")
        if not decision.batch:
            return number
    return most


async def test_rule_41_a_count_in_parts_goes_on_after_redo_and_after_a_rebuild(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await rig.submit(receive("in", units=10, at=now - 60_000))
    await rig.submit(part_of(1, "a", now - 5_000), part_of(3, "c", now - 5_000))
    older = await ShardCopy(rig).take()
    await rig.submit(part_of(2, "b", now - 5_000))
    await rig.submit(ContinueCounts(skus_max=1))
    wanted = await state_of(rig)
    assert {"counts", "listed:SH1\nwhole"} <= wanted.keys()
    assert await recover(rig, older) == wanted, "after redo"
    rig.rows.keep()
    await restate_all(rig)
    rig.rows.keep()
    wanted = await state_of(rig)
    assert await recover(rig) == wanted, "after a rebuild"
    assert await _steps(rig, 20) == 7, "two parts, four SKUs, and a last step that finds none"
    record = (await rig.ledger.read_movement("SH1", "whole")).value
    assert record is not None
    assert (record.outcome, record.detail) == ("counted", "3 lines applied, 1 SKUs that are not listed set to 0")
    assert not {"counts", "listed:SH1\nwhole"} & (await state_of(rig)).keys()


async def test_an_audit_knows_the_keys_of_late_counts_and_of_counts_in_parts(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    now = now_ms()
    await move(rig, "in", now)
    await rig.submit(part_of(1, "a", now - 5_000))
    assert not (await audit(rig)).drifts, "while it waits"
    await rig.submit(part_of(2, "b", now - 5_000), part_of(3, "c", now - 5_000))
    await rig.submit(ContinueCounts(skus_max=1))
    assert not (await audit(rig)).drifts, "on its way"
    await _steps(rig, 20)
