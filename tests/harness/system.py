"""The fixture `system`: the whole of Stocktide as `stocktide up` runs it, a real process on its own folder.

    running = await system()                      # on the session's Kafka and Valkey: fast
    running = await system(own_servers=True)      # with its own embedded servers, as a user has it
    running.ready["api"], running.pid("worker")   # what the ready file says, read anew each time
    await running.stop()                          # SIGTERM; returns the exit status
    again = await system(data=running.data, own_servers=True)   # the same data

What is still running at the test's end is stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.retry import poll_until
from tests.harness.servers import RedisServer

# Ten seconds is the goal on a quiet machine; a shared one takes several times that.
READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0


@dataclass(slots=True)
class RunningSystem:
    """One `stocktide up`. `output` collects what it prints."""

    process: asyncio.subprocess.Process
    data: Path
    ready_file: Path
    output: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

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
        """The API's address, `http://HOST:PORT`."""
        return str(self.ready["api"])

    @property
    def app_id(self) -> str:
        """What the topics and keys begin with."""
        return str(self.ready["app_id"])

    def pid(self, name: str) -> int:
        """The process id of `worker`, `api`, `kafka` or `redis`."""
        return int(self.ready["pids"][name])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a part; the process id that it had."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    async def comes_back(self, name: str, old_pid: int, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until the supervisor has replaced that process and the whole is ready again."""

        async def replaced() -> bool:
            ready = self.ready
            return bool(ready) and ready["pids"].get(name) not in (None, old_pid)

        assert await poll_until(replaced, seconds_max), f"{name} did not come back:\n{self.printed}"

    async def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait for the ready file. Fails with what was printed if the process ends before."""

        async def settled() -> bool:
            return self.process.returncode is not None or bool(self.ready)

        await poll_until(settled, seconds_max)
        assert self.ready, f"not ready (status {self.process.returncode}):\n{self.printed}\n{self.logs}"

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal and wait for its end; the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            status = await asyncio.wait_for(self.process.wait(), STOP_SECONDS_MAX)
        finally:
            if self.process.returncode is None:
                self.process.kill()
        if self.reader is not None:
            await asyncio.wait([self.reader], timeout=STOP_SECONDS_MAX)
        return status

    @property
    def printed(self) -> str:
        """What `up` has printed so far."""
        return "".join(self.output)

    @property
    def logs(self) -> str:
        """The ends of the logs of its parts, for a failure's message."""
        parts = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"--- {part.name}\n{part.read_text(errors='replace')[-3000:]}" for part in parts)

    async def read(self) -> None:
        """Collect what it prints, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace"))


SystemFactory = Callable[..., Coroutine[Any, Any, RunningSystem]]


async def start_system(
    data: Path,
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> RunningSystem:
    """Start `stocktide up` on a folder, API on a free port. Does not wait until it is ready."""
    ready_file = data.with_name(f"{data.name}.ready.json")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "stocktide", "up", "--data", str(data), "--port", "0", "--ready-file", str(ready_file)),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
    )
    running = RunningSystem(process, data, ready_file)
    running.reader = asyncio.create_task(running.read())
    return running


@pytest.fixture
async def system(
    tmp_path: Path, request: pytest.FixtureRequest, kafka: EmbeddedKafka, valkey: RedisServer, app_id: str
) -> AsyncIterator[SystemFactory]:
    """A factory: `await system(data=…, own_servers=…, wait=…, environ=…)`; see the module."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            data: Path | None = None,
            own_servers: bool = False,
            wait: bool = True,
            environ: Mapping[str, str] | None = None,
            arguments: Sequence[str] = (),
        ) -> RunningSystem:
            given = [] if own_servers else ["--kafka", kafka.address, "--redis", valkey.url]
            variables = {} if own_servers else {"STOCKTIDE_APP_ID": app_id}
            folder = data or tmp_path / "data"
            running = await start_system(folder, [*given, *arguments], {**variables, **(environ or {})})
            stack.push_async_callback(running.stop)
            if wait:
                await running.wait_ready()
            return running

        yield start
