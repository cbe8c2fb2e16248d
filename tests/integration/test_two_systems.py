"""Two systems on one machine: a command uses the one that is named, and fails where none is named."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from stocktide.embedded import EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.api_client import unique_name
from tests.harness.process import WITH_KEYS, CommandResult, run_stocktide, started
from tests.harness.servers import KafkaServer, RedisServer
from tests.harness.system import RunningSystem, running_system

MARK = "mark-of-the-test"
# A command that changes a system first names it on standard error.
CHANGES = re.compile(r"changes this system:\n  data    (\S+)\n  app id  (\S+)\n")


@dataclass(frozen=True, slots=True)
class TwoSystems:
    """Two systems on one Kafka, each with its own Redis and one SKU, and a cache that lists only these two."""

    first: RunningSystem
    second: RunningSystem
    skus: tuple[str, str]
    environ: Mapping[str, str]

    async def run(self, *arguments: str) -> CommandResult:
        """Run a command that knows only its arguments and the cache."""
        return await run_stocktide(*arguments, environ=self.environ)


async def mark(system: RunningSystem) -> None:
    """Write a key that no batch writes: only a rebuild removes it. Blessing and batches may change by themselves, by a
    takeover or a pass over all rows."""
    async with connect(str(system.ready["redis"])) as redis:
        await redis.set(key_prefix(system.app_id) + MARK, b"")


async def is_marked(system: RunningSystem) -> bool:
    async with connect(str(system.ready["redis"])) as redis:
        return bool(await redis.exists(key_prefix(system.app_id) + MARK))


@pytest.fixture(scope="module")
async def two(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TwoSystems]:
    """The systems; the last test of the module stops them."""
    folder = tmp_path_factory.mktemp("two")
    environ = {"XDG_CACHE_HOME": str(folder / "cache"), **WITH_KEYS}
    async with AsyncExitStack() as stack:
        own_valkey = await stack.enter_async_context(started(EmbeddedValkey(folder / "valkey", folder / "valkey.log")))
        systems, skus = [], (unique_name("first"), unique_name("second"))
        for name, redis in (("one", valkey.url), ("two", own_valkey.url)):
            starting = running_system(folder / name, kafka.address, redis, unique_name(name), environ, wait=False)
            systems.append(await stack.enter_async_context(starting))
        for system, sku in zip(systems, skus, strict=True):
            await system.wait_ready()
            async with system.client() as shop:
                await shop.receive(sku, 5)
        yield TwoSystems(systems[0], systems[1], skus, environ)


async def test_a_command_goes_to_the_system_that_is_named_and_to_no_other(two: TwoSystems) -> None:
    explained = await two.run("explain", two.skus[1], "--data", str(two.second.data))
    assert explained.status == 0 and two.skus[1] in explained.out, explained
    assert (await two.run("explain", two.skus[1], "--api", two.first.api)).status == 2
    for system in (two.first, two.second):
        audited = await two.run("audit", "--api", system.api)
        assert audited.status == 0 and "changes this system" not in audited.err, audited

    await mark(two.first)
    await mark(two.second)
    for arguments in (("rebuild", "--force"), ("repair", "--apply"), ("keys", "first", "viewer")):
        failed = await two.run(*arguments)
        assert failed.status == 2, (arguments, failed)
        assert "2 systems run here" in failed.err and str(two.first.data) in failed.err and two.second.api in failed.err
    assert await is_marked(two.first) and await is_marked(two.second)

    rebuilt = await two.run("rebuild", "--force", "--data", str(two.second.data))
    assert rebuilt.status == 0, rebuilt
    announced = CHANGES.search(rebuilt.err)
    assert announced is not None and announced.groups() == (str(two.second.data), two.second.app_id)
    assert await is_marked(two.first) and not await is_marked(two.second)


async def test_a_stopped_or_dead_system_is_not_selected(two: TwoSystems) -> None:
    assert await two.first.stop() == 0
    found = await two.run("topics")
    assert found.status == 0 and two.second.app_id in found.out, found
    await two.second.stop(signal.SIGKILL)
    named = await two.run("topics", "--data", str(two.second.data))
    assert named.status == 2 and f"no `stocktide up` runs on {two.second.data}" in named.err
    nowhere = f"127.0.0.1:{pick_free_port()}"
    alone = await two.run("topics", "--kafka", nowhere)
    assert alone.status == 1 and f"no Kafka answers at {nowhere}" in alone.err
