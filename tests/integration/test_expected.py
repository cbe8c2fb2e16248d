"""Announced receipts through Kafka: alerts, dead letters, a rebuild."""

from __future__ import annotations

import json

import redis.asyncio

from stocktide.streams.topics import ADJUSTMENTS, ALERTS, DEAD_LETTERS, MOVEMENTS
from stocktide.tables.audit.redis_keys import digest_of_redis
from tests.harness.events import stock_expected, stock_received
from tests.harness.eventually import eventually
from tests.harness.workers import WAIT_SECONDS_MAX, WorkerGroup

LATER = "2026-11-11T00:00:01Z"


async def digest_of(group: WorkerGroup) -> str:
    async with redis.asyncio.Redis.from_url(group.redis) as client:
        return (await digest_of_redis(client, group.app_id)).hex()


async def test_announcements_from_kafka_raise_alerts_and_come_back_with_a_rebuild(group: WorkerGroup) -> None:
    await group.start()
    late = stock_expected("late", ("A", 7), ("B", 1), eta="2026-01-01T00:00:00Z")
    receipt = {**stock_received("wms-1", ("A", 4)), "expected_id": "po-9"}
    await group.write(
        MOVEMENTS,
        *(("SH1", each) for each in (stock_expected("po-9", ("A", 10)), late, receipt)),
        ("SH1", stock_expected("po-9", ("A", 11))),
        ("SH1", stock_expected("po-9", ("A", 12), at=LATER)),
        ("SH1", {**stock_expected("po-8", ("A", 1)), "eta": "tomorrow"}),
    )
    await group.sku_when("A", lambda record: record.counters.get("incoming#po-9") == 8)
    letters: list[tuple[str, str | None]] = []

    async def are_both_refused() -> bool:
        found = [json.loads(record.value or b"{}") for record in await group.records(DEAD_LETTERS)]
        letters[:] = sorted((each["reason"], each["path"]) for each in found)
        return len(letters) == 2

    await eventually(are_both_refused, WAIT_SECONDS_MAX)
    assert letters == [("conflict", None), ("invalid_field", "eta")]
    alerts = await group.rows_when(ALERTS, lambda rows: any(row["type"] == "receipt_overdue" for row in rows.values()))
    (alert,) = [row for row in alerts.values() if row["type"] == "receipt_overdue"]
    assert (alert["event_id"], alert["warehouse"], alert["quantity"]) == ("late", "SH1", 8)
    row = (await group.rows_when(ADJUSTMENTS, lambda rows: rows["SH1/po-9"]["outcome"] == "amended"))["SH1/po-9"]
    assert row["type"] == "stock.expected" and row["lines"][0]["quantity"] == 12
    before = await digest_of(group)
    async with redis.asyncio.Redis.from_url(group.redis) as client:
        keys = [key async for key in client.scan_iter(match=f"{group.app_id}:*")]
        await client.delete(*keys)
    await group.write(MOVEMENTS, ("SH1", {**stock_received("wms-2", ("C", 1))}))
    await group.sku_when("C", lambda record: record.counters.get("on_hand@SH1") == 1)
    record = await group.sku_when("A", lambda record: record.counters.get("incoming#po-9") == 8)
    assert record.counters["on_hand@SH1"] == 4 and await digest_of(group) != before
