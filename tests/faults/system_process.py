"""A worker or an API under test, kept as a process manager keeps it: what dies is started again, and what was stopped
is continued after a while.

In: a name, a kind, the settings. Out: a process whose failpoints can be armed while it runs; and each of its ends.
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

# A process manager's pause before it starts again what died; longer for what dies at once, or it would eat the machine.
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.2, 2.0
STEADY_SECONDS = 5.0
# How often a process is looked at: whether it is stopped.
LOOK_SECONDS = 0.05
# Who was stopped by a failpoint and forgotten is continued after this long.
STOPPED_SECONDS = 2.0
STOP_SECONDS_MAX = 12.0
PROBE_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """A process that ended: `status` is minus the signal that ended it."""

    name: str
    at: float
    status: int


class SystemProcess:
    """`kind` is `worker` or `api`. `launcher` runs `stocktide`; what follows it is the kind."""

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
        self.ends: list[ProcessExit] = []
        self.launcher = launcher
        self.more: dict[str, str] = {}
        self.starts = 0
        self.sticky = False
        self._points = folder / f"{name}.points"
        self._stopped_seconds = STOPPED_SECONDS
        self._environ = {
            **environ,
            "STOCKTIDE_WORKER_NAME": name,
            "STOCKTIDE_WORKER_PORT" if kind == "worker" else "STOCKTIDE_PORT": str(self.port),
            "STOCKTIDE_FAILPOINTS": f"@{self._points}",
        }
        self._child = ChildProcess(f"the {kind} {name}", self.log)
        self._keeping: list[asyncio.Task[None]] = []

    @property
    def address(self) -> str:
        """`http://HOST:PORT` of its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process as it is now."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it is a process now, stopped or not."""
        return self._child.running

    @property
    def kept(self) -> bool:
        """Whether it is started again when it dies."""
        return bool(self._keeping)

    async def start(self) -> None:
        """Begin to keep it. Does not wait until it is ready."""
        if not self._keeping:
            self.disarm()
            self._keeping = [asyncio.create_task(self._keep()), asyncio.create_task(self._continue_where_stopped())]

    async def stop(self) -> None:
        """Tell it to stop, and keep it no longer."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self._keeping = []
        self.send(signal.SIGCONT)
        await self._child.stop(STOP_SECONDS_MAX)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens while there is no process."""
        self._child.send(number)

    def halt(self, seconds: float) -> None:
        """SIGSTOP. Whoever halts it continues it after so long; who forgets finds it continued a little later."""
        self._stopped_seconds = seconds + STOPPED_SECONDS
        self.send(signal.SIGSTOP)

    def arm(self, points: str, *, stopped_seconds: float = STOPPED_SECONDS, sticky: bool = False) -> None:
        """Arm failpoints, as in `STOCKTIDE_FAILPOINTS`, until it dies or stops there once; `sticky`: until disarmed."""
        self._stopped_seconds = stopped_seconds
        self.sticky = sticky
        fresh = self._points.with_suffix(".new")
        fresh.write_text(points)
        fresh.replace(self._points)

    def disarm(self) -> None:
        """Arm nothing."""
        self.sticky = False
        self._points.unlink(missing_ok=True)

    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal and not continued."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return self.running and fields[0] == "T"

    async def is_ready(self) -> bool:
        """Whether its `/readyz` says so."""
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS_MAX)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{self.address}/readyz") as said:
                return said.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = PAUSE_SECONDS_FIRST
        while True:
            began = clock()
            self.starts += 1
            await self._child.spawn([*self.launcher, self.kind], {**os.environ, **self._environ, **self.more})
            status = await self._child.wait()
            self.ends.append(ProcessExit(self.name, clock(), status))
            if not self.sticky:
                self.disarm()
            pause = PAUSE_SECONDS_FIRST if clock() - began > STEADY_SECONDS else min(2 * pause, PAUSE_SECONDS_MAX)
            await asyncio.sleep(pause)

    async def _continue_where_stopped(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.is_stopped() and not await poll_until(self._goes_on, self._stopped_seconds):
                if not self.sticky:
                    self.disarm()
                with suppress(ProcessLookupError):
                    self.send(signal.SIGCONT)

    async def _goes_on(self) -> bool:
        return not self.is_stopped()

    def last_log_lines(self) -> str:
        """The end of its log."""
        return self._child.last_log_lines()
