"""One process of Stocktide: a command that runs to its end, or a service with a log and an HTTP endpoint.

In: the arguments of `stocktide` and variables of its environment. Out: exit status and output; for a service also the
answers of its endpoint.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import aiohttp
import psutil

from stocktide.embedded.process import ChildProcess
from tests.harness.eventually import eventually

LAUNCHER = (sys.executable, "-m", "stocktide")
# A quiet machine needs about a tenth of these.
COMMAND_SECONDS_MAX = 120.0
READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0
PROBE_SECONDS_MAX = 2.0
# What a failed assertion quotes of a log.
QUOTED_CHARACTERS_MAX = 4_000


class Startable(Protocol):
    """A server or a process."""

    async def start(self) -> None: ...

    async def stop(self) -> object: ...


S = TypeVar("S", bound=Startable)


@asynccontextmanager
async def started(server: S) -> AsyncIterator[S]:
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def fetch(url: str, seconds_max: float = PROBE_SECONDS_MAX) -> tuple[int, str]:
    """Status and body of a GET; status 0 without an answer."""
    timeout = aiohttp.ClientTimeout(total=seconds_max)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, OSError):
        return 0, ""


class CommandResult(NamedTuple):
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        return self.err + self.out

    @property
    def last_line(self) -> str:
        return self.printed.rstrip().rpartition("\n")[2]

    @property
    def report(self) -> Any:
        """The standard output as JSON."""
        return json.loads(self.out)


def _clean_environ() -> dict[str, str]:
    """The environment without settings of Stocktide."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STOCKTIDE_")}


async def run_stocktide(
    *arguments: str, environ: Mapping[str, str] | None = None, seconds_max: float = COMMAND_SECONDS_MAX
) -> CommandResult:
    """Run `stocktide` to its end. Raises TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *(*LAUNCHER, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_clean_environ(), **(environ or {})},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds_max)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return CommandResult(process.returncode, out.decode(), err.decode())


# What most tests are about needs no keys; those of access and of what a newcomer types have them, as by default.
WITHOUT_KEYS, WITH_KEYS = {"STOCKTIDE_OPEN": "1"}, {"STOCKTIDE_OPEN": "0"}


class StocktideProcess:
    """A long-running `stocktide`, `WITHOUT_KEYS` unless its environment says otherwise. Its output goes to a log.
    `url` is the address of its HTTP endpoint, if known; `launcher` the command before the arguments."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        url: str = "",
        launcher: Sequence[str] = LAUNCHER,
    ) -> None:
        self.name = name
        self.launcher = launcher
        self.log = log
        self.url = url
        self._arguments = arguments
        self._environ = environ
        self._child = ChildProcess(name, log)

    @property
    def pid(self) -> int:
        assert self._child.pid is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.running

    @property
    def output(self) -> str:
        """All that the process has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        """The end of the log, for the message of a failed assertion."""
        return f"{self.name}:\n{self.output[-QUOTED_CHARACTERS_MAX:]}"

    async def start(self) -> None:
        """Start the process. Does not wait until it is ready."""
        environ = {**_clean_environ(), **WITHOUT_KEYS, **self._environ}
        await self._child.spawn([*self.launcher, *self._arguments], environ)

    def send_signal(self, number: signal.Signals) -> None:
        self._child.send(number)

    async def wait(self, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """Wait for the end; the exit status, or minus the signal. Raises TimeoutError."""
        return await asyncio.wait_for(self._child.wait(), seconds_max)

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """Send a signal and wait for the end; the exit status. A process that does not end is killed."""
        if self._child.pid is None:
            return 0
        self.send_signal(number)
        try:
            return await self.wait(seconds_max)
        finally:
            self._child.kill()

    def children(self) -> list[psutil.Process]:
        """The processes below this one; none after its end."""
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    async def get(self, path: str) -> tuple[int, str]:
        return await fetch(self.url + path)

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Fail with the end of the log if the process ends or does not become ready."""

        async def is_decided() -> bool:
            return not self.is_running or await self.is_ready()

        await eventually(is_decided, seconds_max, self.log_tail)
        assert await self.is_ready(), self.log_tail()

    async def wait_for_output(self, text: str, seconds_max: float = READY_SECONDS_MAX) -> str:
        await eventually(lambda: text in self.output, seconds_max, self.log_tail)
        return self.output

    async def metric(self, name: str) -> float:
        _, text = await self.get("/metrics")
        samples = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(sample.rpartition(" ")[2]) for sample in samples)
