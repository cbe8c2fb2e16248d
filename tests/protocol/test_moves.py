"""Late counts after a recovery (rule 41): what moved in the last day survives a lost tail and an empty Redis."""

from __future__ import annotations

import msgspec

from stocktide.streams.contract.times import now_ms
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.commands import Command, ContinueCounts, Count, Receive, fingerprint
from stocktide.tables.ledger.records import Decision, SkuRecord
from tests.protocol.audits import audit
from tests.protocol.rig import ProtocolRig, deadline_in
from tests.protocol.shard_copy import ShardCopy, age_out, forget_everything, restate_all, state_of

HOUR_MS = 3_600_000


def received(movement_id: str, at: int, units: int, warehouse: str = "SH1") -> Command:
    """A receipt, as occurred at a time."""
    lines = (("cup", units),)
    mark = fingerprint("receive", lines)
    return Receive(id=movement_id, warehouse=warehouse, at=at, lines=lines, fingerprint=mark)


def counted(at: int, units: int, movement_id: str = "count") -> Command:
    """A count as of a time."""
    lines = (("cup", units),)
    return Count(id=movement_id, warehouse="SH1", at=at, lines=lines, fingerprint=fingerprint("count", lines, at))


async def say(stage: ProtocolRig, *commands: Command) -> Decision:
    """One batch, settled."""
    return await stage.submitter().submit(commands, deadline_in())


def on_hand(decision: Decision) -> int:
    """What the SKU has on hand after the batch."""
    return decision.skus[0].record.counters["on_hand@SH1"]


async def move(stage: ProtocolRig, name: str, now: int) -> None:
    """Movements of many hours, minutes and ms; 11 of its units move after two hours ago."""
    ages = (23 * HOUR_MS, 7 * HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS - 1, 61_000, 1_000, 0)
    for number, age in enumerate(ages):
        await say(stage, received(f"{name}-{number}", now - age, 2 + (number == 3) * 3))
    await say(stage, received(f"{name}-elsewhere", now - 5, 50, "BJ1"))


async def test_rule_41_a_count_is_exact_after_redo(stage: ProtocolRig) -> None:
    relay, now = await stage.blessed_relay(), now_ms()
    await move(stage, "kept", now)
    older = await ShardCopy(stage).take()
    await move(stage, "lost", now)
    wanted = await state_of(stage)
    await relay.stop()
    await older.put_back()
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted
    decision = await say(stage, counted(now - 2 * HOUR_MS, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 122)


async def test_rule_41_a_count_is_exact_after_a_rebuild_from_rows(stage: ProtocolRig) -> None:
    relay, now = await stage.blessed_relay(), now_ms()
    await move(stage, "old", now)
    stage.rows.keep()
    await restate_all(stage)
    await move(stage, "new", now)
    stage.rows.keep()
    assert stage.rows.whole is not None
    wanted = await state_of(stage)
    await relay.stop()
    await forget_everything(stage)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted
    decision = await say(stage, counted(now - 2 * HOUR_MS, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 122)


async def test_rule_41_after_a_rebuild_from_a_shorter_journal_a_count_as_of_now_is_taken_and_an_older_one_is_not(
    stage: ProtocolRig,
) -> None:
    relay, now = await stage.blessed_relay(), now_ms()
    await move(stage, "old", now)
    await restate_all(stage)
    stage.rows.keep()
    assert stage.rows.whole is not None
    await relay.stop()
    age_out(stage.journal, stage.rows.whole.offset)
    await forget_everything(stage)
    await stage.blessed_relay("second")
    refused = await say(stage, counted(now - 2 * HOUR_MS, 100, "older"))
    assert refused.results[0].outcome == "count_too_old"
    decision = await say(stage, counted(now_ms(), 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 100)


async def test_an_older_versions_history_is_carried_over_once(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    now = now_ms()
    await say(stage, received("opening", now - 20 * HOUR_MS, 10))
    await _write_older_record(stage, now)
    taken = await say(stage, received("next", now - 500, 1))
    assert {(move.at, move.units) for move in taken.moves} == {(now - 60_000, 5), (now - 1_000, -2), (now - 500, 1)}
    assert taken.skus[0].record.history == ""
    refused = await say(stage, counted(now - 15 * 60_000 - 1, 7, "older"))
    assert refused.results[0].outcome == "count_too_old"
    decision = await say(stage, counted(now - 30_000, 100))
    assert (decision.results[0].outcome, on_hand(decision)) == ("counted", 99)


async def test_of_an_older_versions_history_only_the_warehouse_that_is_moved_is_carried_over(
    stage: ProtocolRig,
) -> None:
    await stage.blessed_relay()
    stage.ledger = Ledger(stage.redis, stage.app_id, LedgerLimits(whole_rows_bytes_max=0))
    now = now_ms()
    await say(stage, received("opening", now - 20 * HOUR_MS, 10))
    text = "\n".join(f"{name} - - {now - 60_000} 5" for name in ("BJ1", "SH1", "SH10"))
    older = {"version": 1, "at": now, "warehouses": ["BJ1", "SH1", "SH10"], "history": text}
    await stage.redis.set(stage.prefix + "sku:cup", msgspec.msgpack.encode(older | {"counters": {"on_hand@SH1": 10}}))
    taken = await say(stage, received("next", now - 500, 1))
    assert [(move.warehouse, move.units) for move in taken.moves] == [("SH1", 5), ("SH1", 1)]
    left = "\n".join(line for line in text.split("\n") if not line.startswith("SH1 "))
    (patch,) = taken.patches.rows
    assert patch.apply_to(SkuRecord(1, now, history=text), ()).history == left
    record = (await stage.ledger.read_sku("cup")).value
    assert record is not None and record[0].history == left


async def test_a_time_far_ahead_in_an_older_versions_history_stops_no_count(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    now = now_ms()
    await say(stage, received("opening", now - 20 * HOUR_MS, 10))
    await _write_older_record(stage, now + 70 * 365 * 24 * HOUR_MS)
    decision = await say(stage, counted(now_ms(), 100))
    assert decision.results[0].outcome == "counted"
    decision = await say(stage, received("later", now_ms() + 60_000, 1))
    assert (decision.results[0].outcome, on_hand(decision)) == ("received", 101)


async def _write_older_record(stage: ProtocolRig, now: int) -> None:
    """Put the record of the SKU as the version before this one would have kept it."""
    record = (await stage.ledger.read_sku("cup")).value
    assert record is not None
    text = f"SH1 {now - 25 * 60_000} {now - 15 * 60_000} {now - 60_000} 5 {now - 1_000} -2"
    older = {"version": record[0].version, "at": record[0].at, "warehouses": ["SH1"], "history": text}
    counters = {"on_hand@SH1": 10}
    await stage.redis.set(stage.prefix + "sku:cup", msgspec.msgpack.encode(older | {"counters": counters}))


def part_of(number: int, sku: str, at: int) -> Command:
    """One of three parts of a count."""
    lines = ((sku, 4),)
    mark = fingerprint("count", lines, at, number)
    return Count(id="whole", warehouse="SH1", at=at, lines=lines, fingerprint=mark, part=number, parts=3, complete=True)


async def _steps(stage: ProtocolRig, most: int) -> int:
    for number in range(most):
        decision = await stage.ledger.apply([ContinueCounts(skus_max=1)], token=f"step-{now_ms()}-{number}")
        if not decision.batch:
            return number
    return most


async def test_rule_41_a_count_in_parts_goes_on_after_redo_and_after_a_rebuild(stage: ProtocolRig) -> None:
    relay, now = await stage.blessed_relay(), now_ms()
    await say(stage, received("in", now - 60_000, 10))
    await say(stage, part_of(1, "a", now - 5_000), part_of(3, "c", now - 5_000))
    older = await ShardCopy(stage).take()
    await say(stage, part_of(2, "b", now - 5_000))
    await say(stage, ContinueCounts(skus_max=1))
    wanted = await state_of(stage)
    assert {"counts", "listed:SH1\nwhole"} <= wanted.keys()
    await relay.stop()
    await older.put_back()
    second = await stage.blessed_relay("second")
    assert await state_of(stage) == wanted, "after redo"
    stage.rows.keep()
    await restate_all(stage)
    stage.rows.keep()
    wanted = await state_of(stage)
    await second.stop()
    await forget_everything(stage)
    await stage.blessed_relay("third")
    assert await state_of(stage) == wanted, "after a rebuild"
    assert await _steps(stage, 20) == 7, "two parts, four SKUs, and a look that finds no more"
    record = (await stage.ledger.read_movement("SH1", "whole")).value
    assert record is not None
    assert (record.outcome, record.detail) == ("counted", "3 lines applied, 1 SKUs that are not listed set to 0")
    assert not {"counts", "listed:SH1\nwhole"} & (await state_of(stage)).keys()


async def test_an_audit_knows_the_keys_of_late_counts_and_of_counts_in_parts(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    now = now_ms()
    await move(stage, "in", now)
    await say(stage, part_of(1, "a", now - 5_000))
    assert not (await audit(stage)).drifts, "while it waits"
    await say(stage, part_of(2, "b", now - 5_000), part_of(3, "c", now - 5_000))
    await say(stage, ContinueCounts(skus_max=1))
    assert not (await audit(stage)).drifts, "on its way"
    await _steps(stage, 20)
