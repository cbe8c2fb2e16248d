"""`stocktide audit` as a process beside a worker: on a real Kafka and a real Valkey."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from stocktide.streams.topics import ALERTS, AUDIT, RESERVATIONS
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.packed import unpack_sku
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.events import order_placed, placed_and_paid
from tests.harness.eventually import eventually
from tests.harness.process import CommandResult
from tests.harness.servers import KafkaServer
from tests.harness.workers import WAIT_SECONDS_MAX, WorkerGroup

OPENING = 100_000
AUDITS_BESIDE_TRAFFIC_MAX = 4


async def audit(group: WorkerGroup) -> CommandResult:
    return await group.run("audit", "--json")


def drifting_keys(audited: CommandResult) -> set[str]:
    return {f"{drift['subject']} {drift['key']}" for drift in audited.report["drift"]}


async def test_what_was_spoiled_beside_live_traffic_is_found_and_repaired_and_nothing_else(group: WorkerGroup) -> None:
    await group.start()
    await group.receive(["A", "B"], OPENING)
    await group.send_orders(*(event for number in range(100) for event in placed_and_paid(f"p{number}")))
    await group.send_orders(order_placed("held", "B", 3), order_placed("refused", "A", OPENING * 9))
    await group.rows_when(RESERVATIONS, lambda rows: len(rows) == 102)
    sending = asyncio.create_task(group.place_orders(range(2_000), 200))
    await asyncio.sleep(0.5)
    # A short audit may come between two batches: one of them has to meet keys that change while it reads.
    for _ in range(AUDITS_BESIDE_TRAFFIC_MAX):
        clean = await audit(group)
        assert clean.status == 0 and clean.report["digests"]["equal"], clean
        if clean.report["settled"]["redis"]:
            break
    assert clean.report["settled"]["redis"] and not sending.done(), clean.report

    prefix = key_prefix(group.app_id)
    async with connect(group.redis) as redis:
        record = unpack_sku(await redis.get(prefix + "sku:B"))
        record.counters["on_hand@SH1"] -= 40
        await redis.set(prefix + "sku:B", msgspec.msgpack.encode(record))
        await redis.delete(prefix + "order:p7")
        await redis.zrem(prefix + "deadlines", "held")
        await redis.set(prefix + "order:orphan", await redis.get(prefix + "order:p8"))
    await spoil_row(group, "p9", state="cancelled")

    spoiled = await audit(group)
    assert spoiled.status == 1, spoiled
    assert drifting_keys(spoiled) == {"sku B", "order p7", "order held", "order orphan", "order p9"}, spoiled.report
    assert not spoiled.report["digests"]["equal"]
    text = await group.run("audit")
    assert text.status == 1 and "counter on_hand@SH1: the log says 100000, Redis 99960" in text.out, text

    planned = await group.run("repair", "--plan")
    assert planned.status == 1 and "counter on_hand@SH1: 99960 → 100000" in planned.out, planned
    assert "nothing was changed" in planned.out
    assert drifting_keys(await audit(group)) == drifting_keys(spoiled)
    assert not await group.records(AUDIT)

    applied = await group.run("repair", "--apply", "--actor", "anna", "--json")
    assert applied.status == 0, applied
    assert {each["outcome"] for each in applied.report["corrections"]} == {"repaired"}
    assert len(applied.report["corrections"]) == 5 and not applied.report["after"]["drifts"]
    await sending
    clean = await audit(group)
    assert clean.status == 0 and clean.report["digests"]["equal"], clean
    rows = [json.loads(record.value or b"") for record in await group.records(AUDIT)]
    assert {(row["actor"], row["action"]) for row in rows} == {("anna", "repaired")} and len(rows) == 5
    (row,) = (row for row in rows if row["key"] == "B")
    assert row["before"]["counters"]["on_hand@SH1"] == 99_960 and row["after"]["counters"]["on_hand@SH1"] == OPENING
    explained = await group.run("explain", "B")
    assert explained.status == 0 and "repaired by anna" in explained.out, explained


async def spoil_row(group: WorkerGroup, order_id: str, **record: Any) -> None:
    """Overwrite a row of `reservations` as a late writer would."""
    (newest,) = [each for each in await group.records(RESERVATIONS) if each.key == order_id.encode()][-1:]
    row = json.loads(newest.value or b"")
    row["record"].update(record)
    await group.write(RESERVATIONS, (order_id, row), to_partition=lambda _: newest.partition)


async def test_an_audit_without_redis_fails_with_a_reason(kafka: KafkaServer, app_id: str, tmp_path: Path) -> None:
    audited = await WorkerGroup(kafka.address, "redis://127.0.0.1:1/0", app_id, tmp_path).run("audit")
    assert audited.status == 2 and "could not be finished" in audited.err and "127.0.0.1:1" in audited.err, audited


async def test_the_worker_audits_on_a_schedule_and_reports_drift(group: WorkerGroup) -> None:
    worker = await group.start(STOCKTIDE_AUDIT_INTERVAL="1")
    await group.receive(["A", "B"], OPENING)

    async def has_audited() -> bool:
        return await worker.metric("stocktide_audit_end_timestamp_seconds") > 0

    await eventually(has_audited, WAIT_SECONDS_MAX, worker.log_tail)
    assert await worker.metric("stocktide_audit_drifting_keys") == 0
    async with connect(group.redis) as redis:
        await redis.zrem(key_prefix(group.app_id) + "skus", "B")
    rows = await group.rows_when(ALERTS, lambda rows: "B" in rows)
    assert rows["B"]["type"] == "drift" and "entry in skus" in rows["B"]["detail"]
    assert (
        await worker.metric("stocktide_audit_drifting_keys") == 1
        and await worker.metric("stocktide_audit_drift_keys") == 1
    )
    assert await worker.metric("stocktide_audit_compared_records") > 2
