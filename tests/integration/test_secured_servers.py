"""Stocktide on a Kafka and a Redis of one's own, which let in whom they know and allow what docs/operations.md says."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from stocktide.retry import poll_until
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.topics import DEAD_LETTERS, JOURNAL, ORDERS
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, fresh
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.secured_servers import (
    CLUSTER,
    GROUP,
    LITERAL,
    PASSWORD,
    PREFIXED,
    TOPIC,
    USER,
    SecuredKafka,
    SecuredRedis,
)
from tests.harness.system import RunningSystem, start_system

pytestmark = pytest.mark.integration

OPERATIONS_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
COMMAND_SECONDS_MAX = 60.0


def acl_line(app_id: str) -> str:
    """The user of Redis as the page has it."""
    line = re.search(r"^user stocktide on .*$", OPERATIONS_PAGE.read_text(), re.MULTILINE)
    assert line is not None
    return line[0].replace("stocktide:*", f"{app_id}:*").replace("PASSWORD", PASSWORD).replace("stocktide", USER, 1)


async def allow_what_the_page_says(kafka: SecuredKafka, app_id: str) -> None:
    """Give the user of Kafka the rights that the page gives."""
    lines = re.findall(r"^kafka-acls.sh .*$", OPERATIONS_PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        operations = tuple(re.findall(r"--operation (\w+)", line))
        if named := re.search(r"--topic stocktide(\S*)", line):
            pattern = PREFIXED if "--resource-pattern-type prefixed" in line else LITERAL
            await kafka.allow(TOPIC, app_id + named[1], operations, pattern)
        elif "--group stocktide " in line:
            await kafka.allow(GROUP, app_id, operations, LITERAL)
        else:
            assert "--cluster" in line
            await kafka.allow(CLUSTER, "kafka-cluster", operations, LITERAL)


@dataclass(frozen=True, slots=True)
class SecuredServers:
    """Both servers, and what lets Stocktide in."""

    kafka: SecuredKafka
    redis: SecuredRedis
    certificates: Certificates
    environ: dict[str, str]


@pytest.fixture(scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredServers]:
    """Both servers with their locks, for one app id."""
    folder = tmp_path_factory.mktemp("locked")
    certificates = make_certificates(folder)
    app_id = fresh("locked")
    async with AsyncExitStack() as stack:
        kafka = SecuredKafka(folder / "kafka", folder / "kafka.log", certificates)
        redis = SecuredRedis(folder, acl_line(app_id), certificates)
        for server in (kafka, redis):
            stack.push_async_callback(server.stop)
            await server.start()
        await allow_what_the_page_says(kafka, app_id)
        own = {"STOCKTIDE_APP_ID": app_id, "XDG_CACHE_HOME": str(folder)}
        yield SecuredServers(
            kafka, redis, certificates, {**kafka.environment(folder / "password"), **redis.environment(), **own}
        )


def stocktide(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stocktide", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


@pytest.fixture(scope="module")
async def running(locked: SecuredServers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSystem]:
    """Worker and API on them."""
    system = await start_system(tmp_path_factory.mktemp("outside") / "data", (), locked.environ)
    try:
        await system.wait_ready()
        yield system
    finally:
        await system.stop()


async def test_an_order_goes_through_locked_servers(running: RunningSystem) -> None:
    async with aiohttp.ClientSession() as session:
        shop = ApiTestClient(session, running.api)
        sku = fresh("sku")
        await shop.receive(sku, 5)
        order = (await shop.place(sku, 2)).body
        paid = await shop.post(f"/v1/orders/{order['order_id']}/pay", {})
        assert paid.body["state"] == "paid"
        assert (await shop.stock(sku))["available"] == 3
        async with shop.feed("tmall") as feed:
            await feed.until(sku, quantity=3)
    assert PASSWORD not in running.printed + running.logs


async def test_the_doctor_finds_no_right_missing_and_tells_no_secret(
    locked: SecuredServers, running: RunningSystem
) -> None:
    told = stocktide(locked.environ, "doctor")
    assert PASSWORD not in told.stdout + told.stderr
    assert told.returncode == 0, told.stdout
    assert "allow" not in told.stdout, told.stdout


async def send_junk(settings: Settings) -> None:
    """What is no event, to the orders; return once it is among the dead letters."""
    async with AIOKafkaProducer(**settings.kafka_client()) as producer:
        await producer.send_and_wait(ORDERS.full_name(settings.app_id), b"junk")
    letters = DEAD_LETTERS.full_name(settings.app_id)
    async with AIOKafkaConsumer(letters, **settings.kafka_client(), auto_offset_reset="earliest") as consumer:
        letter = await asyncio.wait_for(consumer.getone(), WAIT_SECONDS_MAX)
    assert b"junk" in letter.value


async def test_every_tool_is_let_in_and_the_journal_may_be_cut(
    locked: SecuredServers, running: RunningSystem, tmp_path: Path
) -> None:
    async with aiohttp.ClientSession() as session:
        shop = ApiTestClient(session, running.api)
        sku = fresh("sku")
        await shop.receive(sku, 5)
    settings = Settings.from_environment(locked.environ)
    await send_junk(settings)
    for command in (
        ("topics",),
        ("audit",),
        ("explain", sku),
        ("dead-letters", "list"),
        ("backup", str(tmp_path / "backup")),
    ):
        told = await asyncio.to_thread(stocktide, locked.environ, *command)
        assert told.returncode == 0, (command, told.stdout, told.stderr)
        assert PASSWORD not in told.stdout + told.stderr
    journal = TopicPartition(JOURNAL.full_name(settings.app_id), 0)
    async with admin_client(settings.kafka, **settings.kafka_access()) as admin:
        assert await admin.delete_records({journal: RecordsToDelete(before_offset=1)}) == {journal: 1}


async def test_a_redis_that_evicts_makes_worker_and_api_not_ready(
    locked: SecuredServers, running: RunningSystem
) -> None:
    operator = locked.redis.operator()
    try:
        async with aiohttp.ClientSession() as session:

            async def says(status: int) -> bool:
                for address in (running.ready["worker"], running.api):
                    async with session.get(f"{address}/readyz") as answer:
                        evicts = "maxmemory-policy is allkeys-lru" in await answer.text()
                        if answer.status != status or evicts is (status == 200):
                            return False
                return True

            assert await poll_until(lambda: says(200), WAIT_SECONDS_MAX)
            await operator.config_set("maxmemory-policy", "allkeys-lru")
            assert await poll_until(lambda: says(503), WAIT_SECONDS_MAX)
            await operator.config_set("maxmemory-policy", "noeviction")
            assert await poll_until(lambda: says(200), WAIT_SECONDS_MAX)
    finally:
        await operator.aclose()


async def test_who_is_not_let_in_is_told_why(locked: SecuredServers, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-secret\n")
    cases = {
        "Authentication failed": {"STOCKTIDE_KAFKA_SASL_PASSWORD_FILE": str(wrong)},
        "certificate is not trusted": {"STOCKTIDE_KAFKA_TLS_CA": str(locked.certificates.stranger)},
        "STOCKTIDE_KAFKA_SECURITY": {name: "" for name in locked.environ if "_KAFKA_" in name}
        | {"STOCKTIDE_KAFKA_SECURITY": "PLAINTEXT"},
    }
    # Each is asked again for some seconds, in case the server is only starting: side by side.
    asked = (asyncio.to_thread(stocktide, {**locked.environ, **changed}, "topics") for changed in cases.values())
    for reason, told in zip(cases, await asyncio.gather(*asked), strict=True):
        assert told.returncode == 1
        assert reason in told.stderr, told.stderr
        assert "Traceback" not in told.stderr
        assert "wrong-secret" not in told.stderr
