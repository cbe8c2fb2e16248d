"""A start that cannot come right ends at once with the reason and leaves nothing; one that takes long says why."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.valkey import find_valkey, server_command
from stocktide.retry import poll_until
from tests.harness import command
from tests.harness.servers import START_SECONDS_MAX, STOP_SECONDS_MAX, _answers
from tests.harness.system import RunningSystem, SystemFactory, start_system

pytestmark = pytest.mark.integration

END_SECONDS_MAX = 30.0
# A wait tells its reason after ten seconds; a process that is stopped takes as long again to be killed.
REASON_SECONDS_MAX = 60.0

StartValkey = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
async def unfit(tmp_path: Path) -> AsyncIterator[StartValkey]:
    """A factory of Valkeys that cannot be used: `await unfit("--cluster-enabled", "yes")` gives the URL."""
    async with AsyncExitStack() as stack:

        async def start(*options: str) -> str:
            folder, port = tmp_path / f"valkey{len(options)}", pick_free_port()
            folder.mkdir(exist_ok=True)
            child = ChildProcess("valkey", folder / "valkey.log")
            stack.push_async_callback(child.stop, STOP_SECONDS_MAX)
            await child.spawn([*server_command(find_valkey(), port, folder), *options])
            url = f"redis://127.0.0.1:{port}/0"

            async def listens() -> bool:
                return await _answers(url) or "Ready to accept" in (folder / "valkey.log").read_text()

            assert await poll_until(listens, START_SECONDS_MAX), child.last_log_lines()
            return url

        yield start


def children_of(running: RunningSystem) -> list[psutil.Process]:
    """The processes that an `up` started, while it runs."""
    return psutil.Process(running.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def ended(running: RunningSystem, seconds_max: float = END_SECONDS_MAX) -> str:
    """What an `up` printed that ended by itself, unsuccessfully."""
    assert await asyncio.wait_for(running.process.wait(), seconds_max) == 1
    await running.stop()
    assert "Traceback" not in running.printed
    return running.printed


def left(running: RunningSystem) -> list[str]:
    """What lies in the data folder and beside it, but logs."""
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
async def test_an_up_on_a_redis_that_cannot_be_used_ends_at_once_and_leaves_nothing(
    options: tuple[str, ...], reason: str, unfit: StartValkey, tmp_path: Path
) -> None:
    url = await unfit(*options)
    began = time.monotonic()
    running = await start_system(tmp_path / "data", ("--redis", url))
    printed = await ended(running)
    assert time.monotonic() - began < END_SECONDS_MAX / 2
    assert reason in printed and "secret" not in printed
    assert not running.data.exists() and not running.ready_file.exists()


@pytest.mark.parametrize("name", ["worker", "api"])
async def test_a_worker_or_an_api_on_a_redis_in_cluster_mode_ends_at_once(
    name: str, unfit: StartValkey, kafka: EmbeddedKafka, app_id: str, tmp_path: Path
) -> None:
    environ = {
        "STOCKTIDE_KAFKA": kafka.address,
        "STOCKTIDE_REDIS": await unfit("--cluster-enabled", "yes"),
        "STOCKTIDE_APP_ID": app_id,
        "STOCKTIDE_DATA": str(tmp_path / "data"),
    }
    said = await command.stocktide(name, seconds_max=END_SECONDS_MAX, environ=environ)
    assert said.status == 1 and "cluster mode is on" in said.err, said
    topics = await command.stocktide("topics", seconds_max=END_SECONDS_MAX, environ=environ)
    assert "12 missing" in topics.out, "nothing was made on Kafka for a start that failed"


async def test_a_worker_that_dies_at_the_start_is_quoted_and_nothing_is_left(system: SystemFactory) -> None:
    running = await system(wait=False, environ={"STOCKTIDE_FAILPOINTS": "in_takeover=kill"})
    seen: dict[int, psutil.Process] = {}
    while running.process.returncode is None:
        with_children = children_of(running) if psutil.pid_exists(running.process.pid) else []
        seen.update({each.pid: each for each in with_children})
        await asyncio.sleep(0.1)
    printed = await ended(running)
    assert "the worker ended while it started (killed by SIGKILL); the end of" in printed
    assert "the worker joins its group" in printed
    assert seen and alive(list(seen.values())) == []
    assert "lock" not in left(running) and "running.json" not in left(running)


async def test_a_start_that_takes_long_says_why_and_a_signal_ends_it(system: SystemFactory) -> None:
    running = await system(wait=False, environ={"STOCKTIDE_FAILPOINTS": "in_takeover=stop"})

    async def told() -> bool:
        on_terminal = all(f"waiting for the {name}: " in running.printed for name in ("API", "worker"))
        return on_terminal and "waiting for the API: the ledger decides nothing" in running.logs

    assert await poll_until(told, REASON_SECONDS_MAX), running.printed
    assert "the ledger decides nothing" in running.printed or "not being settled" in running.printed
    children = children_of(running)
    assert await running.stop(signal.SIGTERM) == 0
    assert children and alive(children) == []
    assert "lock" not in left(running)


async def test_a_start_that_is_ended_while_kafka_is_made_leaves_no_half_of_it(tmp_path: Path) -> None:
    running = await start_system(tmp_path / "data")

    async def formats() -> bool:
        return (running.data / "kafka" / "server.properties").exists()

    assert await poll_until(formats, END_SECONDS_MAX), running.printed
    children = children_of(running)
    assert await running.stop(signal.SIGINT) == 0
    assert alive(children) == []
    whole = (running.data / "kafka" / "logs" / "meta.properties").exists()
    assert whole or not (running.data / "kafka").exists(), left(running)
    assert "lock" not in left(running)


async def test_a_running_system_tells_where_it_is_in_its_data_folder_and_takes_that_away(system: SystemFactory) -> None:
    running = await system()
    told = json.loads((running.data / "running.json").read_text())
    assert {name: told[name] for name in ("api", "kafka", "redis", "app_id")} == {
        name: running.ready[name] for name in ("api", "kafka", "redis", "app_id")
    }
    assert await running.stop() == 0
    assert "lock" not in left(running) and "running.json" not in left(running)
