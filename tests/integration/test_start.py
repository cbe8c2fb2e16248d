"""A start that cannot succeed ends at once with the reason and leaves nothing; one that takes long reports why."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psutil
import pytest

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.valkey import find_valkey
from stocktide.streams.topics import TOPICS
from tests.harness.eventually import eventually
from tests.harness.process import alive, started
from tests.harness.servers import KafkaServer, RedisProcess
from tests.harness.system import RunningSystem, SystemFactory, running_system
from tests.harness.workers import WorkerGroup

END_SECONDS_MAX = 30.0
# A wait is reported after ten seconds, and killing a stopped process takes as long again.
REASON_SECONDS_MAX = 60.0


def unusable_redis(folder: Path, *options: str) -> AbstractAsyncContextManager[RedisProcess]:
    # Else the port of the cluster is the server's plus 10,000, whoever uses that.
    ports = ("--cluster-port", str(pick_free_port())) if "--cluster-enabled" in options else ()
    return started(RedisProcess(find_valkey(), folder / "redis", *options, *ports))


async def output_of_failed(running: RunningSystem) -> str:
    """The output of an `up` that ends by itself with status 1."""
    assert await running.wait(END_SECONDS_MAX) == 1
    assert "Traceback" not in running.output
    return running.output


def files_left(running: RunningSystem) -> list[str]:
    """The files of the data folder, without logs; there is no ready file beside it."""
    assert not running.ready_file.exists()
    files = sorted(path.relative_to(running.data).as_posix() for path in running.data.rglob("*"))
    return [file for file in files if not file.startswith("logs")]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--cluster-enabled", "yes"), "cluster mode is on"),
        (("--maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru"),
        (("--replicaof", "127.0.0.1", "1"), "only a primary decides"),
        (("--requirepass", "secret"), "does not let us in"),
        (("--user", *["default", "on", "nopass", "~*", "&*", "+@all", "-evalsha"]), "may not use EVALSHA"),
    ],
    ids=["cluster", "evicts", "replica", "password", "rights"],
)
async def test_an_up_on_an_unusable_redis_ends_and_leaves_nothing(
    options: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    async with unusable_redis(tmp_path, *options) as redis:
        began = time.monotonic()
        async with running_system(tmp_path / "data", redis=redis.url, wait=False) as running:
            printed = await output_of_failed(running)
    assert time.monotonic() - began < END_SECONDS_MAX / 2
    assert reason in printed and "secret" not in printed
    assert not running.data.exists() and not running.ready_file.exists()


@pytest.mark.parametrize("name", ["worker", "api"])
async def test_a_process_on_a_redis_cluster_ends_at_once(
    name: str, kafka: KafkaServer, app_id: str, tmp_path: Path
) -> None:
    async with unusable_redis(tmp_path, "--cluster-enabled", "yes") as redis:
        group = WorkerGroup(kafka.address, redis.url, app_id, tmp_path / "data")
        failed, topics = await group.run(name), await group.run("topics")
    assert failed.status == 1 and "cluster mode is on" in failed.err, failed
    assert f"{len(TOPICS)} missing" in topics.out, "nothing was made on Kafka for a start that failed"


async def test_a_worker_that_dies_at_the_start_is_quoted_and_nothing_is_left(system: SystemFactory) -> None:
    running = await system(wait=False, environ={"STOCKTIDE_FAILPOINTS": "in_takeover=kill"})
    seen: dict[int, psutil.Process] = {}
    while running.is_running:
        seen.update({child.pid: child for child in running.children()})
        await asyncio.sleep(0.1)
    printed = await output_of_failed(running)
    assert "the worker ended while it started (killed by SIGKILL); the end of" in printed
    assert "the worker joins its group" in printed
    assert seen and alive(seen.values()) == []
    assert "lock" not in files_left(running) and "running.json" not in files_left(running)


async def test_a_start_that_takes_long_gives_the_reason_and_a_signal_ends_it(system: SystemFactory) -> None:
    running = await system(wait=False, environ={"STOCKTIDE_FAILPOINTS": "in_takeover=stop"})

    def is_reported() -> bool:
        on_terminal = all(f"waiting for the {name}: " in running.output for name in ("API", "worker"))
        return on_terminal and "waiting for the API: the ledger decides nothing" in running.logs

    await eventually(is_reported, REASON_SECONDS_MAX, running.log_tail)
    assert "the ledger decides nothing" in running.output or "not being settled" in running.output
    children = running.children()
    assert await running.stop(signal.SIGTERM) == 0
    assert children and alive(children) == []
    assert "lock" not in files_left(running)


async def test_a_start_that_is_ended_while_kafka_is_made_leaves_no_half_of_it(tmp_path: Path) -> None:
    async with running_system(tmp_path / "data", wait=False) as running:
        properties = running.data / "kafka" / "server.properties"
        await eventually(properties.exists, END_SECONDS_MAX, running.log_tail)
        children = running.children()
        assert await running.stop(signal.SIGINT) == 0
    assert alive(children) == []
    whole = (running.data / "kafka" / "logs" / "meta.properties").exists()
    assert whole or not (running.data / "kafka").exists(), files_left(running)
    assert "lock" not in files_left(running)


async def test_a_running_system_has_a_run_file_in_its_data_folder_and_removes_it(system: SystemFactory) -> None:
    running = await system()
    run_file = json.loads((running.data / "running.json").read_text())
    for name in ("api", "kafka", "redis", "app_id"):
        assert run_file[name] == running.ready[name]
    parts = running.parts()
    assert await running.stop(signal.SIGTERM) == 0
    assert "lock" not in files_left(running) and "running.json" not in files_left(running)
    await eventually(lambda: not alive(parts), END_SECONDS_MAX)
