"""Stocktide on a Kafka and a Redis with access control, with exactly the rights that docs/operations.md gives."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stocktide.settings import Settings
from stocktide.streams.topics import DEAD_LETTERS, JOURNAL, ORDERS
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, unique_name
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.eventually import eventually
from tests.harness.process import fetch, run_stocktide, started
from tests.harness.receiver import ALLOW_LOOPBACK
from tests.harness.robots import Robots, receivers_of, running_robots
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
from tests.harness.system import RunningSystem, running_system
from tests.harness.trimming import trim

OPERATIONS_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def acl_line(app_id: str) -> str:
    """The Redis user of the page."""
    line = re.search(r"^user stocktide on .*$", OPERATIONS_PAGE.read_text(), re.MULTILINE)
    assert line is not None
    return line[0].replace("stocktide:*", f"{app_id}:*").replace("PASSWORD", PASSWORD).replace("stocktide", USER, 1)


async def allow_what_the_page_says(kafka: SecuredKafka, app_id: str) -> None:
    """Give the Kafka user the rights of the page."""
    lines = re.findall(r"^kafka-acls.sh .*$", OPERATIONS_PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        operations = tuple(re.findall(r"--operation (\w+)", line))
        pattern = PREFIXED if "--resource-pattern-type prefixed" in line else LITERAL
        if named := re.search(r"--topic stocktide(\S*)", line):
            await kafka.allow(TOPIC, app_id + named[1], operations, pattern)
        elif named := re.search(r"--group stocktide(\S*)", line):
            await kafka.allow(GROUP, app_id + named[1], operations, pattern)
        else:
            assert "--cluster" in line
            await kafka.allow(CLUSTER, "kafka-cluster", operations, LITERAL)


@dataclass(frozen=True, slots=True)
class SecuredServers:
    """Both servers, and the variables with which Stocktide connects."""

    kafka: SecuredKafka
    redis: SecuredRedis
    certificates: Certificates
    environ: dict[str, str]


@pytest.fixture(scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecuredServers]:
    folder = tmp_path_factory.mktemp("secured")
    certificates = make_certificates(folder)
    app_id = unique_name("secured")
    async with (
        started(SecuredKafka(folder / "kafka", folder / "kafka.log", certificates)) as kafka,
        started(SecuredRedis(folder, acl_line(app_id), certificates)) as redis,
    ):
        await allow_what_the_page_says(kafka, app_id)
        environ = {**kafka.environment(folder / "password"), **redis.environment()}
        own = {"STOCKTIDE_APP_ID": app_id, "XDG_CACHE_HOME": str(folder)}
        yield SecuredServers(kafka, redis, certificates, environ | own)


@pytest.fixture(scope="module")
async def robots() -> AsyncIterator[Robots]:
    async with running_robots() as found:
        yield found


@pytest.fixture(scope="module")
async def running(
    secured: SecuredServers, robots: Robots, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("up")
    file = folder / "alerts.yaml"
    routes = [{"receiver": "slack", "group_wait": "0s"}]
    file.write_bytes(msgspec.yaml.encode({"receivers": receivers_of(robots, folder), "routes": routes}))
    environ = {**secured.environ, **ALLOW_LOOPBACK, "STOCKTIDE_ALERTS_FILE": str(file)}
    async with running_system(folder / "data", environ=environ) as system:
        yield system


async def check_watching(shop: ApiTestClient) -> None:
    """What a board reads needs no right that the documented ones lack."""
    for path in ("/v1/alerts", "/v1/dead-letters"):
        await shop.get_when(path, lambda answer: answer.status == 200)  # 503 on a busy machine

    def is_known(answer: Any) -> bool:
        parts = {part["part"]: part for part in answer.body["parts"]}
        asked = ("outbox", "settling", "deciding", "derivations", "workers")
        return all(parts[name]["state"] in ("ok", "waiting") for name in asked)

    await shop.get_when("/v1/health", is_known)


async def test_an_order_and_its_alert_go_through_secured_servers(running: RunningSystem, robots: Robots) -> None:
    async with running.client() as shop:
        sku = await shop.receive_new(5)
        order = (await shop.place(sku, 2)).body
        paid = await shop.post(f"/v1/orders/{order['order_id']}/pay", {})
        assert paid.body["state"] == "paid"
        assert (await shop.stock(sku))["available"] == 3
        async with shop.feed("tmall") as feed:
            await feed.until(sku, quantity=3)
            assert (await shop.place(sku, 3)).status == 201
        await check_watching(shop)
    await robots.until("slack", sku)
    assert PASSWORD not in running.output + running.logs


async def test_the_doctor_finds_no_missing_right_and_no_secret(secured: SecuredServers, running: RunningSystem) -> None:
    doctor = await run_stocktide("doctor", environ=secured.environ)
    assert PASSWORD not in doctor.printed
    assert doctor.status == 0 and "allow" not in doctor.out, doctor.out


async def send_junk(settings: Settings) -> None:
    """Send bytes that are no event to the orders, and wait until they are a dead letter."""
    async with AIOKafkaProducer(**settings.kafka_client()) as producer:
        await producer.send_and_wait(ORDERS.full_name(settings.app_id), b"junk")
    letters = DEAD_LETTERS.full_name(settings.app_id)
    async with AIOKafkaConsumer(letters, **settings.kafka_client(), auto_offset_reset="earliest") as consumer:
        letter = await asyncio.wait_for(consumer.getone(), WAIT_SECONDS_MAX)
    assert b"junk" in letter.value


async def test_every_tool_has_access(secured: SecuredServers, running: RunningSystem, tmp_path: Path) -> None:
    async with running.client() as shop:
        sku = await shop.receive_new(5)
    settings = Settings.from_environment(secured.environ)
    await send_junk(settings)
    backup = ("backup", str(tmp_path / "backup"))
    for command in (("topics",), ("audit",), ("explain", sku), ("dead-letters", "list"), backup):
        done = await run_stocktide(*command, environ=secured.environ)
        assert done.status == 0, (command, done)
        assert PASSWORD not in done.printed
    assert await trim(settings.kafka, JOURNAL.full_name(settings.app_id), 1, **settings.kafka_access()) == 1


async def test_with_eviction_worker_and_api_are_not_ready(secured: SecuredServers, running: RunningSystem) -> None:
    async def both_report(status: int) -> bool:
        for part in ("worker", "api"):
            found, body = await fetch(f"{running.ready[part]}/readyz")
            evicts = "maxmemory-policy is allkeys-lru" in body
            if found != status or evicts is (status == 200):
                return False
        return True

    async with secured.redis.operator() as operator:
        await eventually(lambda: both_report(200), WAIT_SECONDS_MAX)
        for policy, status in (("allkeys-lru", 503), ("noeviction", 200)):
            await operator.config_set("maxmemory-policy", policy)
            await eventually(lambda status=status: both_report(status), WAIT_SECONDS_MAX)  # type: ignore[misc]


async def test_a_refused_connection_is_reported_with_its_reason(secured: SecuredServers, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-secret\n")
    cases = {
        "Authentication failed": {"STOCKTIDE_KAFKA_SASL_PASSWORD_FILE": str(wrong)},
        "certificate is not trusted": {"STOCKTIDE_KAFKA_TLS_CA": str(secured.certificates.untrusted)},
        "STOCKTIDE_KAFKA_SECURITY": {name: "" for name in secured.environ if "_KAFKA_" in name}
        | {"STOCKTIDE_KAFKA_SECURITY": "PLAINTEXT"},
    }
    # Each command retries for some seconds, since the server may just be starting: run them side by side.
    commands = (run_stocktide("topics", environ={**secured.environ, **changed}) for changed in cases.values())
    for reason, refused in zip(cases, await asyncio.gather(*commands), strict=True):
        assert refused.status == 1
        assert reason in refused.err and "Traceback" not in refused.err, refused.err
        assert "wrong-secret" not in refused.err
