"""The whole of Stocktide as `stocktide up` runs it, on a data folder.

    async with running_system(folder, kafka.address, valkey.url) as system:   # on the session's servers: fast
        system.ready["api"], system.part_pid("worker")                        # from the ready file as it is now
        await system.run("doctor")                                            # a command on this system
        async with system.client() as shop: ...                               # a client of its API

The fixture `system` starts such systems within a test: `await system(own_servers=True, wait=False)`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.api_client import ApiTestClient, open_client
from tests.harness.eventually import eventually
from tests.harness.process import READY_SECONDS_MAX, CommandResult, StocktideProcess, run_stocktide, started
from tests.harness.servers import KafkaServer, RedisServer


class RunningSystem(StocktideProcess):
    """One `stocktide up`, its API on a free port. Without Kafka or Redis it runs embedded servers."""

    def __init__(
        self,
        data: Path,
        kafka: str | None = None,
        redis: str | None = None,
        app_id: str | None = None,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.data = data
        self.ready_file = data.with_name(f"{data.name}.ready.json")
        folders = ("--data", str(data), "--port", "0", "--ready-file", str(self.ready_file))
        servers = (*(("--kafka", kafka) if kafka else ()), *(("--redis", redis) if redis else ()))
        log = data.with_name(f"{data.name}.up.log")
        variables = {"STOCKTIDE_APP_ID": app_id} if app_id else {}
        super().__init__("up", ("up", *folders, *servers, *options), {**variables, **(environ or {})}, log)

    @property
    def ready(self) -> dict[str, Any]:
        """The ready file as it is now; empty while there is none."""
        try:
            content: dict[str, Any] = json.loads(self.ready_file.read_text())
        except FileNotFoundError:
            return {}
        return content

    @property
    def api(self) -> str:
        """`http://HOST:PORT`"""
        return str(self.ready["api"])

    @property
    def app_id(self) -> str:
        return str(self.ready["app_id"])

    @property
    def options(self) -> tuple[str, ...]:
        """The options with which `loadtest` and `replay` find this system."""
        ready = self.ready
        return ("--api", ready["api"], "--kafka", ready["kafka"], "--app-id", ready["app_id"])

    async def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> CommandResult:
        """Run a command that finds this system by its environment."""
        ready = self.ready
        variables = {f"STOCKTIDE_{name.upper()}": ready[name] for name in ("kafka", "redis", "app_id")}
        variables["STOCKTIDE_PORT"] = ready["api"].rpartition(":")[2]
        return await run_stocktide(*arguments, environ={**variables, **(environ or {})})

    def client(self, role: str = "operator") -> AbstractAsyncContextManager[ApiTestClient]:
        """A client with the first key of a role, where the system has keys."""
        return open_client(self.api, key=self.ready.get("keys", {}).get(role))

    @property
    def logs(self) -> str:
        """The ends of the logs of all parts, for the message of a failed assertion."""
        parts = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"--- {part.name}\n{part.read_text(errors='replace')[-3000:]}" for part in parts)

    def log_tail(self) -> str:
        return f"{super().log_tail()}\n{self.logs}"

    async def is_ready(self) -> bool:
        """Whether the ready file is there, which `up` writes when all parts are ready."""
        return bool(self.ready)

    def parts(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.ready["pids"].values()]

    def part_pid(self, name: str) -> int:
        """The process id of `worker`, `api`, `kafka` or `redis`."""
        return int(self.ready["pids"][name])

    def signal_part(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a part; returns its process id."""
        pid = self.part_pid(name)
        os.kill(pid, number)
        return pid

    async def restart_part(self, name: str) -> None:
        """Kill a part and wait until the supervisor has replaced it and all parts are ready again."""
        old_pid = self.signal_part(name, signal.SIGKILL)

        def is_replaced() -> bool:
            return self.ready.get("pids", {}).get(name) not in (None, old_pid)

        await eventually(is_replaced, READY_SECONDS_MAX, self.log_tail)


@asynccontextmanager
async def running_system(
    data: Path,
    kafka: str | None = None,
    redis: str | None = None,
    app_id: str | None = None,
    environ: Mapping[str, str] | None = None,
    wait: bool = True,
    options: Sequence[str] = (),
) -> AsyncIterator[RunningSystem]:
    """A system that is ready, unless `wait` is false; stopped at the end."""
    async with started(RunningSystem(data, kafka, redis, app_id, environ, options)) as system:
        if wait:
            await system.wait_ready()
        yield system


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client of the module's system."""
    async with running.client() as client:
        yield client


SystemFactory = Callable[..., Coroutine[Any, Any, RunningSystem]]


@pytest.fixture
async def system(tmp_path: Path, kafka: KafkaServer, valkey: RedisServer, app_id: str) -> AsyncIterator[SystemFactory]:
    """A factory of systems, by default on the session's servers and the folder `tmp_path / "data"`."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            data: Path | None = None,
            own_servers: bool = False,
            wait: bool = True,
            environ: Mapping[str, str] | None = None,
        ) -> RunningSystem:
            addresses: tuple[str | None, str | None, str | None] = (kafka.address, valkey.url, app_id)
            if own_servers:
                addresses = (None, None, None)
            made = running_system(data or tmp_path / "data", *addresses, environ, wait)
            return await stack.enter_async_context(made)

        yield start
