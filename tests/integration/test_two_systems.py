"""Two systems on one machine: a command goes to the one that is named, or says that it does not know which."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness import command
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, fresh
from tests.harness.command import CommandResult
from tests.harness.servers import RedisServer
from tests.harness.system import RunningSystem, start_system

pytestmark = pytest.mark.integration

COMMAND_SECONDS_MAX = 90.0
# What changes a system says so on standard error before it does.
CHANGES = re.compile(r"changes this system:\n  data    (\S+)\n  app id  (\S+)\n")


@dataclass(frozen=True, slots=True)
class TwoSystems:
    """Two systems on one Kafka, each with a Redis of its own, a SKU of its own, and a cache that knows only them."""

    first: RunningSystem
    second: RunningSystem
    skus: tuple[str, str]
    environ: Mapping[str, str]

    async def run(self, *arguments: str) -> CommandResult:
        """A command that knows nothing of them but what its arguments say."""
        return await command.stocktide(*arguments, seconds_max=COMMAND_SECONDS_MAX, environ=self.environ)


async def blessing(system: RunningSystem) -> tuple[dict[bytes, bytes], int]:
    """Who brought its Redis up, and at which batch it stands: what a rebuild would change."""
    redis = connect(str(system.ready["redis"]))
    try:
        prefix = key_prefix(system.app_id)
        return await redis.hgetall(prefix + "blessed"), int(await redis.hget(prefix + "head", "batch") or 0)
    finally:
        await redis.aclose()


@pytest.fixture
async def two(kafka: EmbeddedKafka, valkey: RedisServer, tmp_path: Path) -> AsyncIterator[TwoSystems]:
    """Both serve, and each has received its SKU."""
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    async with AsyncExitStack() as stack:
        other = EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")
        stack.push_async_callback(other.stop)
        await other.start()
        systems, skus = [], (fresh("first"), fresh("second"))
        for name, redis in (("one", valkey.url), ("two", other.url)):
            own = {**environ, "STOCKTIDE_APP_ID": fresh(name)}
            system = await start_system(tmp_path / name, ("--kafka", kafka.address, "--redis", redis), own)
            stack.push_async_callback(system.stop)
            systems.append(system)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for system, sku in zip(systems, skus, strict=True):
            await system.wait_ready()
            await ApiTestClient(session, system.api).receive(sku, 5)
        yield TwoSystems(systems[0], systems[1], skus, environ)


async def test_a_command_goes_to_the_system_that_is_named_and_to_no_other(two: TwoSystems) -> None:
    for arguments in (("rebuild", "--force"), ("repair", "--apply")):
        said = await two.run(*arguments)
        assert said.status == 2, (arguments, said)
        assert "2 systems run here" in said.err and str(two.first.data) in said.err and two.second.api in said.err
    untouched = await blessing(two.first), await blessing(two.second)

    explained = await two.run("explain", two.skus[1], "--data", str(two.second.data))
    assert explained.status == 0 and two.skus[1] in explained.out, explained
    assert (await two.run("explain", two.skus[1], "--api", two.first.api)).status == 2
    for system in (two.first, two.second):
        audited = await two.run("audit", "--api", system.api)
        assert audited.status == 0 and "changes this system" not in audited.err, audited
    assert (await blessing(two.first), await blessing(two.second)) == untouched

    rebuilt = await two.run("rebuild", "--force", "--data", str(two.second.data))
    assert rebuilt.status == 0, rebuilt
    announced = CHANGES.search(rebuilt.err)
    assert announced is not None and announced.groups() == (str(two.second.data), two.second.app_id)
    assert await blessing(two.first) == untouched[0]
    assert (await blessing(two.second))[0] != untouched[1][0]


async def test_what_stopped_or_died_is_no_longer_in_question(two: TwoSystems) -> None:
    assert await two.first.stop() == 0
    found = await two.run("topics")
    assert found.status == 0 and two.second.app_id in found.out, found
    await two.second.stop(signal.SIGKILL)
    named = await two.run("topics", "--data", str(two.second.data))
    assert named.status == 2 and f"no `stocktide up` runs on {two.second.data}" in named.err
    alone = await asyncio.wait_for(two.run("topics"), WAIT_SECONDS_MAX)
    assert alone.status == 1 and "no Kafka answers at 127.0.0.1:9092" in alone.err
