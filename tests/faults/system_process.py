"""A worker or API under test, supervised: it is restarted when it ends, and continued some time after it was stopped.

In: a name, a kind, the settings. Out: a process whose failpoints can be armed while it runs, and the list of its exits.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from stocktide.embedded.ports import pick_free_port
from stocktide.retry import poll_until
from stocktide.streams.backoff import doubling_pauses
from tests.harness.process import LAUNCHER, StocktideProcess

# The pause before a restart; longer for a process that ends at once.
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.2, 2.0
STEADY_SECONDS = 5.0
CHECK_SECONDS = 0.05
# A process that is stopped by a failpoint is continued after this time.
STOPPED_SECONDS_MAX = 2.0
STOP_SECONDS_MAX = 12.0


class SystemProcess(StocktideProcess):
    """A supervised process. `kind` is `worker` or `api`; `exits` are exit statuses, or minus the signal."""

    def __init__(
        self, name: str, kind: str, folder: Path, environ: Mapping[str, str], launcher: Sequence[str] = LAUNCHER
    ) -> None:
        self.port = pick_free_port()
        self.exits: list[int] = []
        self.extra_environ: dict[str, str] = {}
        self.sticky = False
        self._points = folder / f"{name}.points"
        self._stopped_seconds = STOPPED_SECONDS_MAX
        self._tasks: list[asyncio.Task[None]] = []
        self._settings = {
            **environ,
            "STOCKTIDE_WORKER_NAME": name,
            "STOCKTIDE_WORKER_PORT" if kind == "worker" else "STOCKTIDE_PORT": str(self.port),
            "STOCKTIDE_FAILPOINTS": f"@{self._points}",
        }
        url = f"http://127.0.0.1:{self.port}"
        super().__init__(name, [kind], self._settings, folder / f"{name}.log", url, launcher)

    @property
    def supervised(self) -> bool:
        return bool(self._tasks)

    async def start(self) -> None:
        """Begin supervision. Does not wait until the process is ready."""
        if not self._tasks:
            self.disarm()
            self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._continue_if_stopped())]

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """End supervision, and stop the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self.send_signal(signal.SIGCONT)
        try:
            return await super().stop(number, seconds_max)
        except TimeoutError:
            return await self.wait()

    def pause(self, seconds: float) -> None:
        """SIGSTOP. The caller continues it after `seconds`; otherwise the supervision does so a little later."""
        self._stopped_seconds = seconds + STOPPED_SECONDS_MAX
        self.send_signal(signal.SIGSTOP)

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
            return self.is_running and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    async def _supervise(self) -> None:
        clock = asyncio.get_running_loop().time
        pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
        while True:
            began = clock()
            self._environ = {**self._settings, **self.extra_environ}
            await super().start()
            self.exits.append(await self._child.wait())
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
                self.send_signal(signal.SIGCONT)

    async def _is_continued(self) -> bool:
        return not self.is_stopped()
