"""A stalled system is reported by readiness, the doctor, an alert and a metric; an audit of it claims nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from stocktide.streams.kafka.admin import admin_client, ensure_topics
from stocktide.tables.settlement.stalls import STALL_SECONDS
from tests.harness.eventually import eventually
from tests.harness.process import CommandResult, fetch
from tests.harness.system import RunningSystem, SystemFactory

# A stall is reported after 10 s on a quiet machine.
REPORT_SECONDS_MAX = 60.0


async def command(running: RunningSystem, *arguments: str) -> CommandResult:
    """Run a command; the output without line breaks."""
    result = await running.run(*arguments)
    return result._replace(out=" ".join(result.out.split()))


async def reasons_of(running: RunningSystem, part: str) -> str:
    """Why `worker` or `api` is not ready; "" where it is."""
    status, body = await fetch(f"{running.ready[part]}/readyz", seconds_max=30.0)
    return "" if status == 200 else body or "no answer"


async def health_of(running: RunningSystem) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `/v1/health` says of the parts, and of the processes by kind."""
    async with running.client() as shop:
        body = (await shop.get("/v1/health")).body
    return {each["part"]: each for each in body["parts"]}, {each["kind"]: each for each in body["processes"]}


async def wait_all_ready(running: RunningSystem) -> None:
    async def is_ready() -> bool:
        return not (await reasons_of(running, "worker") or await reasons_of(running, "api"))

    await eventually(is_ready, REPORT_SECONDS_MAX, running.log_tail)


async def alerts(running: RunningSystem) -> list[dict[str, Any]]:
    topic, options = running.ready["topics"]["alerts"], {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer(topic, bootstrap_servers=running.ready["kafka"], **options) as consumer:
        fetched = await consumer.getmany(timeout_ms=3_000)
    return [json.loads(record.value) for records in fetched.values() for record in records]


@pytest.mark.soak
async def test_a_halted_kafka_is_reported_with_topic_and_reason_until_it_continues(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    async with running.client() as shop:
        await shop.receive("A", 100)
        assert (await shop.place("A")).status == 201
        running.signal_part("kafka", signal.SIGSTOP)
        try:
            assert (await shop.place("A", order_id="meanwhile")).status == 503

            async def is_reported() -> bool:
                worker, api = await reasons_of(running, "worker"), await reasons_of(running, "api")
                return "settling has made no progress for" in worker and "has made no progress for" in api

            await eventually(is_reported, REPORT_SECONDS_MAX)
            worker = await reasons_of(running, "worker")
            assert "at topic stocktide-journal, partition 0, offset" in worker and "Kafka does not answer" in worker
            assert "stocktide-channel-stock" in await reasons_of(running, "api")
            parts, _ = await health_of(running)
            assert (parts["kafka"]["state"], parts["deciding"]["waiting"]) == ("stalled", None), parts
            doctor, audited = await asyncio.gather(command(running, "doctor"), command(running, "audit"))
            assert doctor.status == 1 and "settling has made no progress for" in doctor.out, doctor
            assert "all is well" not in doctor.out
            assert audited.status not in (0, 1) and "no drift" not in audited.printed, audited
        finally:
            running.signal_part("kafka", signal.SIGCONT)
        await wait_all_ready(running)
        assert (await shop.place("A", order_id="meanwhile")).status in (200, 201)

    async def is_written() -> bool:
        types = {(row["type"], row.get("topic")) for row in await alerts(running)}
        return {("stalled", "stocktide-journal"), ("stall_over", "stocktide-journal")} <= types

    await eventually(is_written, REPORT_SECONDS_MAX)


async def test_an_idle_system_stays_ready(running: RunningSystem) -> None:
    async with running.client() as shop:
        await shop.receive("A", 100)
    for _ in range(int(2 * STALL_SECONDS)):
        assert not await reasons_of(running, "worker") and not await reasons_of(running, "api")
        await asyncio.sleep(1)
    doctor = await command(running, "doctor")
    assert "nothing waits" in doctor.out and "has made no progress" not in doctor.out, doctor


async def check_halted_worker(running: RunningSystem) -> None:
    """While the worker is halted nobody knows how it is, and what it said of its parts counts no more."""
    running.signal_part("worker", signal.SIGSTOP)
    try:

        async def is_unknown() -> bool:
            parts, processes = await health_of(running)
            workers = parts["workers"]
            return (
                (workers["state"], processes["worker"]["state"]) == ("unknown", "unknown")
                and workers["seconds"] > 20
                and "has said nothing for" in workers["detail"]
            )

        await eventually(is_unknown, REPORT_SECONDS_MAX, running.log_tail)
        assert (await health_of(running))[1]["api"]["state"] != "unknown"
    finally:
        running.signal_part("worker", signal.SIGCONT)


async def test_a_derivation_that_is_blocked_is_reported_while_orders_are_answered(running: RunningSystem) -> None:
    journal, reservations = running.ready["topics"]["journal"], running.ready["topics"]["reservations"]
    kafka = running.ready["kafka"]
    async with running.client() as shop:
        await shop.receive("A", 100)
        async with admin_client(kafka) as admin:
            await admin.delete_topics([reservations])  # it has no rows yet: nothing is lost
        try:
            assert (await shop.place("A")).status == 201

            async def is_reported() -> bool:
                found = await reasons_of(running, "worker")
                return f"at topic {journal}, partition 0" in found and f"at topic {reservations}, partition" in found

            await eventually(is_reported, REPORT_SECONDS_MAX, running.log_tail)
            assert (await shop.place("A")).status == 201
            doctor, audited = await asyncio.gather(command(running, "doctor"), command(running, "audit"))
            assert doctor.status == 1 and f"at topic {journal}, partition 0" in doctor.out, doctor
            assert audited.status == 2 and "no drift" not in audited.printed, audited
            _, metrics = await fetch(f"{running.ready['worker']}/metrics")
            assert f'stocktide_stalled{{part="consuming {journal}-0"}} 1.0' in metrics
            rows = [row for row in await alerts(running) if row.get("part") == f"consuming {journal}-0"]
            assert [(row["type"], row["topic"], row["partition"]) for row in rows] == [("stalled", journal, 0)]

            async def is_shown() -> bool:
                parts, processes = await health_of(running)
                derivations = parts["derivations"]
                assert parts["deciding"]["state"] != "stalled" and parts["settling"]["state"] != "stalled"
                return (
                    (derivations["state"], processes["worker"]["state"]) == ("stalled", "stalled")
                    and derivations["seconds"] >= STALL_SECONDS
                    and reservations in derivations["detail"]
                )

            await eventually(is_shown, REPORT_SECONDS_MAX, running.log_tail)
            await check_halted_worker(running)
        finally:
            await ensure_topics(kafka, running.app_id, partitions=4)
        await wait_all_ready(running)
        clean = await command(running, "audit")
        assert clean.status == 0 and "no drift" in clean.out, clean
