"""`stocktide audit` as a process beside a worker: on a real Kafka and a real Valkey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.retry import poll_until
from stocktide.streams.topics import ALERTS, AUDIT, ORDERS, RESERVATIONS
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness import command
from tests.harness.servers import RedisServer
from tests.harness.workers import (
    PARTITIONS,
    WAIT_SECONDS_MAX,
    WorkerGroup,
    make_worker_group,
    order_of,
    placed,
    send_steadily,
)

pytestmark = pytest.mark.integration
OPENING = 100_000


@dataclass(frozen=True)
class AuditResult:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """Its JSON."""
        report: dict[str, Any] = json.loads(self.out)
        return report

    @property
    def keys(self) -> set[str]:
        """What drifts."""
        return {f"{drift['subject']} {drift['key']}" for drift in self.report["drift"]}


async def stocktide(fleet: WorkerGroup, *arguments: str) -> AuditResult:
    """Run a command of the front door."""
    environ = {
        "STOCKTIDE_APP_ID": fleet.app_id,
        "STOCKTIDE_KAFKA": fleet.kafka,
        "STOCKTIDE_REDIS": fleet.redis,
        "STOCKTIDE_PARTITIONS": str(PARTITIONS),
    }
    return AuditResult(*await command.stocktide(*arguments, seconds_max=WAIT_SECONDS_MAX, environ=environ))


@pytest.fixture
async def fleet(kafka: EmbeddedKafka, valkey: RedisServer, app_id: str, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    """One worker, and a hundred orders."""
    made = await make_worker_group(kafka.address, valkey.url, app_id, tmp_path)
    await made.start()
    await made.receive(["A", "B"], OPENING)
    await made.send(ORDERS, [pair for number in range(100) for pair in order_of(f"p{number}")])
    await made.send(ORDERS, [placed("held", "B", 3), placed("refused", "A", OPENING * 9)])
    await made.newest_when(RESERVATIONS, lambda rows: len(rows) == 102)
    yield made
    await made.close()


async def test_what_was_spoiled_beside_live_traffic_is_found_and_repaired_and_nothing_else(fleet: WorkerGroup) -> None:
    sending = asyncio.create_task(send_steadily(fleet, range(3_000), 400))
    await asyncio.sleep(0.5)
    clean = await stocktide(fleet, "audit", "--json")
    assert clean.status == 0, clean
    assert clean.report["digests"]["equal"] and clean.report["settled"]["redis"], clean.report

    prefix = key_prefix(fleet.app_id)
    async with connect(fleet.redis) as redis:
        record = msgspec.msgpack.decode(await redis.get(prefix + "sku:B"))
        record["counters"]["on_hand@SH1"] -= 40
        await redis.set(prefix + "sku:B", msgspec.msgpack.encode(record))
        await redis.delete(prefix + "order:p7")
        await redis.zrem(prefix + "deadlines", "held")
        await redis.set(prefix + "order:orphan", await redis.get(prefix + "order:p8"))
    await spoil_row(fleet, "p9", state="cancelled")

    spoiled = await stocktide(fleet, "audit", "--json")
    assert spoiled.status == 1, spoiled
    assert spoiled.keys == {"sku B", "order p7", "order held", "order orphan", "order p9"}, spoiled.report
    assert not spoiled.report["digests"]["equal"]
    told = await stocktide(fleet, "audit")
    assert told.status == 1 and "counter on_hand@SH1: the log says 100000, Redis 99960" in told.out, told

    planned = await stocktide(fleet, "repair", "--plan")
    assert planned.status == 1 and "counter on_hand@SH1: 99960 → 100000" in planned.out, planned
    assert "nothing was changed" in planned.out
    assert (await stocktide(fleet, "audit", "--json")).keys == spoiled.keys
    assert not await fleet.records(AUDIT)

    applied = await stocktide(fleet, "repair", "--apply", "--actor", "anna", "--json")
    assert applied.status == 0, applied
    assert {each["outcome"] for each in applied.report["corrections"]} == {"repaired"}
    assert len(applied.report["corrections"]) == len(spoiled.keys) and not applied.report["after"]["drifts"]
    await sending
    clean = await stocktide(fleet, "audit", "--json")
    assert clean.status == 0 and clean.report["digests"]["equal"], clean
    rows = [json.loads(record.value or b"") for record in await fleet.records(AUDIT)]
    assert {(row["actor"], row["action"]) for row in rows} == {("anna", "repaired")} and len(rows) == len(spoiled.keys)
    (row,) = (row for row in rows if row["key"] == "B")
    assert row["before"]["counters"]["on_hand@SH1"] == 99_960 and row["after"]["counters"]["on_hand@SH1"] == OPENING
    explained = await stocktide(fleet, "explain", "B")
    assert explained.status == 0 and "repaired by anna" in explained.out, explained


async def spoil_row(fleet: WorkerGroup, order_id: str, **record: Any) -> None:
    """Write a row of `reservations` over, as a late writer would."""
    (newest,) = [each for each in await fleet.records(RESERVATIONS) if each.key == order_id.encode()][-1:]
    row = json.loads(newest.value or b"")
    row["record"].update(record)
    async with fleet.producer() as publisher:
        topic = RESERVATIONS.full_name(fleet.app_id)
        value = json.dumps(row).encode()
        await publisher.publish(
            topic, [(order_id.encode(), value)], publisher.epoch, to_partition=lambda _: newest.partition
        )


async def test_an_audit_of_what_is_not_there_says_so(kafka: EmbeddedKafka, app_id: str, tmp_path: Path) -> None:
    said = await stocktide(WorkerGroup(kafka.address, "redis://127.0.0.1:1/0", app_id, tmp_path), "audit")
    assert said.status == 2 and "could not be finished" in said.err and "127.0.0.1:1" in said.err, said


async def test_the_worker_audits_on_a_schedule_and_tells_of_drift(
    kafka: EmbeddedKafka, valkey: RedisServer, app_id: str, tmp_path: Path
) -> None:
    fleet = await make_worker_group(kafka.address, valkey.url, app_id, tmp_path)
    try:
        worker = await fleet.start(STOCKTIDE_AUDIT_INTERVAL="1")
        await fleet.receive(["A", "B"], OPENING)

        async def audited() -> bool:
            return await worker.gauge("stocktide_audited_at_seconds") > 0

        assert await poll_until(audited, WAIT_SECONDS_MAX), worker.last_log_lines()
        assert await worker.gauge("stocktide_drifts") == 0
        async with connect(fleet.redis) as redis:
            await redis.zrem(key_prefix(app_id) + "skus", "B")
        rows = await fleet.newest_when(ALERTS, lambda rows: "B" in rows)
        assert rows["B"]["type"] == "drift" and "entry in skus" in rows["B"]["detail"]
        assert await worker.gauge("stocktide_drifts") == 1 and await worker.gauge("stocktide_drift") == 1
        assert await worker.gauge("stocktide_audit_compared") > 2
    finally:
        await fleet.close()
