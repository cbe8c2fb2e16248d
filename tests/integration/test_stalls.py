"""A system that stands still says so: readiness, the doctor, an alert, a metric; an audit beside it claims nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer

from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import admin_client, ensure_topics
from stocktide.tables.settlement.stalls import STALL_SECONDS
from tests.harness.command import CommandResult, stocktide
from tests.harness.system import RunningSystem, SystemFactory

pytestmark = pytest.mark.integration

AT = "2026-11-11T00:00:00Z"
# A stall is told after 10 s; a machine that is shared takes a few times that.
TOLD_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 120.0


@asynccontextmanager
async def client(running: RunningSystem) -> AsyncIterator[Callable[..., Awaitable[tuple[int, Any]]]]:
    """Asks `METHOD URL` and gives (status, JSON)."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def ask(method: str, url: str, body: Any = None) -> tuple[int, Any]:
            async with session.request(method, url, json=body) as answer:
                return answer.status, await answer.json(content_type=None)

        yield ask


def asked_of(running: RunningSystem) -> dict[str, str]:
    """The environment in which a command asks this very system."""
    ready = running.ready
    named = {"KAFKA": ready["kafka"], "REDIS": ready["redis"], "APP_ID": ready["app_id"]}
    return {f"STOCKTIDE_{name}": value for name, value in {**named, "PORT": ready["api"].rpartition(":")[2]}.items()}


async def command(running: RunningSystem, *arguments: str) -> CommandResult:
    said = await stocktide(*arguments, seconds_max=COMMAND_SECONDS_MAX, environ=asked_of(running))
    return CommandResult(said.status, " ".join(said.out.split()), said.err)  # lines are as wide as COLUMNS


async def open_shop(running: RunningSystem, ask: Callable[..., Awaitable[tuple[int, Any]]]) -> None:
    lines = [{"sku": "A", "quantity": 100}]
    body = {"id": "opening", "occurred_at": AT, "warehouse": "SH1", "type": "stock.received", "lines": lines}
    events = f"{running.api}/v1/events"
    async with aiohttp.ClientSession() as session, session.post(events, data=json.dumps(body)) as answer:
        assert answer.status in (200, 202), await answer.text()

    async def there() -> bool:
        return (await ask("GET", f"{running.api}/v1/stock/A"))[0] == 200

    assert await poll_until(there, TOLD_SECONDS_MAX)


async def place(running: RunningSystem, ask: Callable[..., Awaitable[tuple[int, Any]]], order_id: str) -> int:
    body = {"order_id": order_id, "channel": "jd", "occurred_at": AT, "lines": [{"sku": "A", "quantity": 1}]}
    return (await ask("POST", f"{running.api}/v1/orders", body))[0]


async def reasons_of(ask: Callable[..., Awaitable[tuple[int, Any]]], url: str) -> str:
    """Why a process is not ready; "" where it is."""
    status, body = await ask("GET", f"{url}/readyz")
    return "" if status == 200 else json.dumps(body["reasons"])


async def alerts(running: RunningSystem) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(
        running.ready["topics"]["alerts"],
        bootstrap_servers=running.ready["kafka"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        fetched = await consumer.getmany(timeout_ms=3_000)
        return [json.loads(record.value) for records in fetched.values() for record in records]
    finally:
        await consumer.stop()


async def take_away(running: RunningSystem, topic: str) -> None:
    """Delete a topic, as an operator may by mistake."""
    async with admin_client(running.ready["kafka"]) as admin:
        await admin.delete_topics([running.ready["topics"][topic]])


async def give_back(running: RunningSystem) -> None:
    """Make all topics that are missing."""
    await ensure_topics(running.ready["kafka"], running.app_id, partitions=4)


async def test_a_kafka_that_is_halted_is_told_with_topic_and_reason_until_it_goes_on(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    async with client(running) as ask:
        await open_shop(running, ask)
        assert await place(running, ask, "before") == 201
        running.kill("kafka", signal.SIGSTOP)
        try:
            assert await place(running, ask, "meanwhile") == 503

            async def both_told() -> bool:
                worker, api = await reasons_of(ask, running.ready["worker"]), await reasons_of(ask, running.api)
                return "settling has made no progress for" in worker and "has made no progress for" in api

            assert await poll_until(both_told, TOLD_SECONDS_MAX)
            worker = await reasons_of(ask, running.ready["worker"])
            assert "at topic stocktide-journal, partition 0, offset" in worker and "Kafka does not answer" in worker
            assert "stocktide-channel-stock" in await reasons_of(ask, running.api)
            said, audited = await asyncio.gather(command(running, "doctor"), command(running, "audit"))
            assert said.status == 1 and "settling has made no progress for" in said.out, said.printed
            assert "all is well" not in said.out
            assert audited.status not in (0, 1) and "no drift" not in audited.printed, audited.printed
        finally:
            running.kill("kafka", signal.SIGCONT)

        async def both_ready() -> bool:
            return not (await reasons_of(ask, running.ready["worker"]) or await reasons_of(ask, running.api))

        assert await poll_until(both_ready, TOLD_SECONDS_MAX)
        assert await place(running, ask, "meanwhile") in (200, 201)

        async def told() -> bool:
            types = {(row["type"], row.get("topic")) for row in await alerts(running)}
            return {("stalled", "stocktide-journal"), ("stall_over", "stocktide-journal")} <= types

        assert await poll_until(told, TOLD_SECONDS_MAX)


async def test_a_derivation_that_cannot_get_on_is_told_while_orders_are_answered(system: SystemFactory) -> None:
    running = await system()
    journal, reservations = running.ready["topics"]["journal"], running.ready["topics"]["reservations"]
    async with client(running) as ask:
        await open_shop(running, ask)
        await take_away(running, "reservations")  # it has no rows yet: nothing is lost
        try:
            assert await place(running, ask, "o1") == 201

            async def told() -> bool:
                found = await reasons_of(ask, running.ready["worker"])
                return f"at topic {journal}, partition 0" in found and f"at topic {reservations}, partition" in found

            assert await poll_until(told, TOLD_SECONDS_MAX), (
                await reasons_of(ask, running.ready["worker"]),
                running.logs,
            )
            assert await place(running, ask, "o2") == 201
            said, audited = await asyncio.gather(command(running, "doctor"), command(running, "audit"))
            assert said.status == 1 and f"at topic {journal}, partition 0" in said.out, said.printed
            assert audited.status == 2 and "no drift" not in audited.printed, audited.printed
            async with aiohttp.ClientSession() as session, session.get(f"{running.ready['worker']}/metrics") as answer:
                assert f'stocktide_stalled{{part="consuming {journal}-0"}} 1.0' in await answer.text()
            told_of = [row for row in await alerts(running) if row.get("part") == f"consuming {journal}-0"]
            assert [(row["type"], row["topic"], row["partition"]) for row in told_of] == [("stalled", journal, 0)]
        finally:
            await give_back(running)

        async def ready() -> bool:
            return not await reasons_of(ask, running.ready["worker"])

        assert await poll_until(ready, TOLD_SECONDS_MAX)
        clean = await command(running, "audit")
        assert clean.status == 0 and "no drift" in clean.out, clean.printed


async def test_a_system_that_rests_is_ready_for_as_long_as_it_rests(system: SystemFactory) -> None:
    running = await system()
    async with client(running) as ask:
        await open_shop(running, ask)
        loop = asyncio.get_running_loop()
        until_then = loop.time() + 2 * STALL_SECONDS
        while loop.time() < until_then:
            assert not await reasons_of(ask, running.ready["worker"])
            assert not await reasons_of(ask, running.api)
            await asyncio.sleep(1)
        said = await command(running, "doctor")
        assert "nothing waits" in said.out and "has made no progress" not in said.out, said.printed
