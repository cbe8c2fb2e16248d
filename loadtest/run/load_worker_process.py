"""The testers of a run, each a process of its own, as the one that leads them sees them.

In: assignments. Out: reports; orders are given to one or to all. What a tester prints on standard error is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from stocktide.errors import StocktideError
from stocktide.loadtest.run.process_messages import Assignment, LoadCommand, LoadWorkerReport

# A part of ten minutes: histograms of each second.
LINE_BYTES_MAX = 64 * 1024 * 1024
# Connecting: an interpreter starts, hundreds of feeds open and get their snapshot.
READY_SECONDS_MAX = 60.0
# A tester that is told to leave has nothing left to do.
END_SECONDS_MAX = 10.0


class LoadWorkerError(StocktideError):
    """A tester cannot do its part; the message says which and why."""


class LoadWorkerProcess:
    """One tester. `last` is its newest report."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.last = LoadWorkerReport()
        self._process = process
        self._said: asyncio.Queue[LoadWorkerReport] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def order(self, order: LoadCommand | Assignment) -> None:
        """Tell it what to do. Raises LoadWorkerError where it is gone."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(order) + b"\n")
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise LoadWorkerError(f"the load generator's process {self.name} ended") from error

    async def is_ready(self) -> None:
        """Wait until it is connected. Raises LoadWorkerError."""
        await self._answer("ready", READY_SECONDS_MAX)

    async def is_done(self, seconds_max: float) -> LoadWorkerReport:
        """Wait until what was ordered is done; the report that says so. Raises LoadWorkerError."""
        return await self._answer("done", seconds_max)

    async def end(self) -> None:
        """Let it go; after a while, make it."""
        with contextlib.suppress(LoadWorkerError):
            await self.order(LoadCommand("end"))
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS_MAX)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)

    def check(self) -> None:
        """Raise LoadWorkerError where it cannot go on."""
        if self.last.failure is not None:
            raise LoadWorkerError(f"the load generator's process {self.name} failed: {self.last.failure}")
        if self._reading.done():
            raise LoadWorkerError(f"the load generator's process {self.name} ended too early")

    async def _answer(self, which: str, seconds_max: float) -> LoadWorkerReport:
        said = asyncio.create_task(self._said.get())
        try:
            await asyncio.wait((said, self._reading), timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            if said.done():
                return said.result()
            self.check()
            raise LoadWorkerError(
                f"the load generator's process {self.name} was not {which} within {seconds_max:.0f} s"
            )
        finally:
            said.cancel()

    async def _read(self) -> None:
        """Take in what it says until it ends."""
        stdout = self._process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            self.last = report = msgspec.json.decode(line, type=LoadWorkerReport)
            if report.ready or report.done:
                self._said.put_nowait(report)


async def start(name: str, command: Sequence[str], assignment: Assignment) -> LoadWorkerProcess:
    """Start a tester and give it its assignment; it is ready some time later."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX
    )
    tester = LoadWorkerProcess(name, process)
    await tester.order(assignment)
    return tester
