"""A worker or API under test, supervised: it is restarted when it ends, and continued some time after it was stopped.

In: a name, a kind, the settings. Out: a process whose failpoints can be armed while it runs, and the list of its exits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.retry import poll_until
from stocktide.streams.backoff import doubling_pauses

# The pause before a restart; longer for a process that ends at once.
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.2, 2.0
STEADY_SECONDS = 5.0
CHECK_SECONDS = 0.05
# A process that is stopped by a failpoint is continued after this time.
STOPPED_SECONDS_MAX = 2.0
STOP_SECONDS_MAX = 12.0
PROBE_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """The end of a process: `status` is the exit status, or minus the signal."""

    name: str
    at: float
    status: int


class SystemProcess:
    """A supervised process. `kind` is `worker` or `api`; `launcher` is the command before it."""

    def __init__(
        self,
        name: str,
        kind: str,
        folder: Path,
        environ: Mapping[str, str],
        launcher: Sequence[str] = (sys.executable, "-m", "stocktide"),
    ) -> None:
        self.name = name
        self.kind = kind
        self.port = pick_free_port()
        self.log = folder / f"{name}.log"
        self.exits: list[ProcessExit] = []
        self.launcher = launcher
        self.extra_environ: dict[str, str] = {}
        self.starts = 0
        self.sticky = False
        self._points = folder / f"{name}.points"
        self._stopped_seconds = STOPPED_SECONDS_MAX
        self._environ = {
            **environ,
            "STOCKTIDE_WORKER_NAME": name,
            "STOCKTIDE_WORKER_PORT" if kind == "worker" else "STOCKTIDE_PORT": str(self.port),
            "STOCKTIDE_FAILPOINTS": f"@{self._points}",
        }
        self._child = ChildProcess(f"the {kind} {name}", self.log)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it has a process, stopped or not."""
        return self._child.running

    @property
    def supervised(self) -> bool:
        return bool(self._tasks)

    async def start(self) -> None:
        """Begin supervision. Does not wait until the process is ready."""
        if not self._tasks:
            self.disarm()
            self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._continue_if_stopped())]

    async def stop(self) -> None:
        """End supervision, and stop the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self.send(signal.SIGCONT)
        await self._child.stop(STOP_SECONDS_MAX)

    def send(self, number: signal.Signals) -> None:
        self._child.send(number)

    def pause(self, seconds: float) -> None:
        """SIGSTOP. The caller continues it after `seconds`; otherwise the supervision does so a little later."""
        self._stopped_seconds = seconds + STOPPED_SECONDS_MAX
        self.send(signal.SIGSTOP)

    def arm(self, points: str, *, stopped_seconds: float = STOPPED_SECONDS_MAX, sticky: bool = False) -> None:
        """Arm failpoints, as in `STOCKTIDE_FAILPOINTS`, until it ends or stops there once; `sticky`: until disarmed."""
        self._stopped_seconds = stopped_seconds
        self.sticky = sticky
        fresh = self._points.with_suffix(".new")
        fresh.write_text(points)
        fresh.replace(self._points)

    def disarm(self) -> None:
        self.sticky = False
        self._points.unlink(missing_ok=True)

    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal."""
        try:
            fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return self.running and fields[0] == "T"

    async def is_ready(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS_MAX)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{self.address}/readyz") as said:
                return said.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _supervise(self) -> None:
        clock = asyncio.get_running_loop().time
        pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
        while True:
            began = clock()
            self.starts += 1
            await self._child.spawn([*self.launcher, self.kind], {**os.environ, **self._environ, **self.extra_environ})
            status = await self._child.wait()
            self.exits.append(ProcessExit(self.name, clock(), status))
            if not self.sticky:
                self.disarm()
            if clock() - began > STEADY_SECONDS:
                pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
            await asyncio.sleep(next(pauses))

    async def _continue_if_stopped(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self.is_stopped() and not await poll_until(self._is_continued, self._stopped_seconds):
                if not self.sticky:
                    self.disarm()
                with suppress(ProcessLookupError):
                    self.send(signal.SIGCONT)

    async def _is_continued(self) -> bool:
        return not self.is_stopped()

    def last_log_lines(self) -> str:
        return self._child.last_log_lines()
