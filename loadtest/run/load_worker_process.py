"""The load workers of a run, each a process of its own, as the controller sees them, and the messages between them.

In: an `Assignment`, then `LoadCommand`s, a line of JSON each. Out: `LoadWorkerReport`s. A worker shares the standard
error of the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from stocktide.errors import StocktideError
from stocktide.loadtest.measure.meter import Measurements, SecondMeasurements
from stocktide.loadtest.workload.retail import PLAIN, FileFormat
from stocktide.loadtest.workload.scenarios import Goods
from stocktide.loadtest.workload.shapes import Shape

OrderTransport = Literal["http", "kafka", "both"]

# The measurements of ten minutes: histograms of each second.
LINE_BYTES_MAX = 64 * 1024 * 1024
# An interpreter starts; hundreds of feeds connect and get their snapshot.
READY_SECONDS_MAX = 60.0
# A worker that gets `end` has nothing left to do.
END_SECONDS_MAX = 10.0


class Assignment(Struct, frozen=True):
    """The role of a load worker: to push, as the `index`-th of `processes`, or to run `subscribers` subscribers,
    of which the share `sockets` use a WebSocket.

    `clock_offset` gives all processes the same clock; `history` is the path of the file to write. `file` (a path),
    `speed` and `form`: orders of a real file, this many times as fast, instead of generated ones.
    """

    role: Literal["push", "subscribe"]
    index: int
    processes: int
    seed: int
    goods: Goods
    api: str
    kafka: str
    app_id: str
    door: OrderTransport
    history: str
    clock_offset: float
    subscribers: int = 0
    sockets: float = 0.0
    file: str | None = None
    speed: float = 1.0
    form: FileFormat = PLAIN


class LoadCommand(Struct, frozen=True):
    """The next step. `start`: generate a stretch of load; `record`: record what every subscriber holds; `end`: exit.

    `zero_at`: the start of the load, `begins_at`: that of this stretch, both s of the machine's monotonic clock.
    `first`: the number of the stretch's first order. `stretch` seeds its random numbers. `versions`: by channel and
    SKU, the last published version, which every subscriber should have before `record` is carried out.
    """

    do: Literal["start", "record", "end"]
    zero_at: float = 0.0
    begins_at: float = 0.0
    shape: Shape = "steady"
    seconds: float = 0.0
    peak: float = 0.0
    first: int = 0
    stretch: int = 0
    versions: dict[str, dict[str, int]] = {}


class LoadWorkerReport(Struct, frozen=True):
    """The state of a load worker. Every record up to `at` (ms of the history's clock) is in its file.

    `ready`: it is connected. `done`: the command is carried out; `part` then has all measurements. `recent`: the
    measurements since the last report. `failure`: why it cannot go on.
    """

    at: int = 0
    ready: bool = False
    done: bool = False
    totals: dict[str, int] = {}
    in_flight: int = 0
    recent: SecondMeasurements | None = None
    part: Measurements | None = None
    failure: str | None = None


class LoadWorkerError(StocktideError):
    """A load worker cannot do its part; the message says which and why."""


class LoadWorkerProcess:
    """One load worker. `last` is its newest report."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.last = LoadWorkerReport()
        self._process = process
        self._awaited: asyncio.Queue[LoadWorkerReport] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def send(self, message: LoadCommand | Assignment) -> None:
        """Send a command. Raises LoadWorkerError where the process has ended."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(message) + b"\n")
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise LoadWorkerError(f"the load generator's process {self.name} ended") from error

    async def end(self) -> None:
        """Let it exit; kill it where it does not in time."""
        with contextlib.suppress(LoadWorkerError):
            await self.send(LoadCommand("end"))
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

    async def next_report(self, state: Literal["ready", "done"], seconds_max: float) -> LoadWorkerReport:
        """Wait until it is connected, or until the command is carried out. Raises LoadWorkerError."""
        report = asyncio.create_task(self._awaited.get())
        try:
            await asyncio.wait((report, self._reading), timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            if report.done():
                return report.result()
            self.check()
            raise LoadWorkerError(
                f"the load generator's process {self.name} was not {state} within {seconds_max:.0f} s"
            )
        finally:
            report.cancel()

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            self.last = report = msgspec.json.decode(line, type=LoadWorkerReport)
            if report.ready or report.done:
                self._awaited.put_nowait(report)


async def start(name: str, command: Sequence[str], assignment: Assignment) -> LoadWorkerProcess:
    """Start a load worker and send its assignment."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX
    )
    worker = LoadWorkerProcess(name, process)
    await worker.send(assignment)
    return worker
