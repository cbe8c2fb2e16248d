"""The worker, the API or Prometheus as a supervised child process whose `/readyz` says when it is ready."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp

from stocktide.embedded.process import ChildProcess
from stocktide.errors import CommandError
from stocktide.progress import Echo, WaitReporter, silent
from stocktide.settings import Settings

# Before it is ready, a worker restores its tables: a minute for a million SKUs, and a reserve.
READY_SECONDS_MAX = 180.0
# Time to finish a chunk in progress and open requests. SIGKILL loses nothing either.
STOP_SECONDS_MAX = 15.0
PROBE_SECONDS_MAX = 2.0
POLL_SECONDS = 0.1
# The part of a /readyz answer that an error message quotes.
ANSWER_CHARACTERS_MAX = 500


class ProgramEnded(CommandError):
    """The program ended before it was ready."""


class ProgramNotReady(CommandError):
    """The program runs, but was not ready in time."""


class Program(ChildProcess):
    """A child process. `command` runs it, `environ` as in `spawn`, `address` is `http://HOST:PORT` of its
    `ready_path`."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environ: dict[str, str] | None,
        address: str,
        log: Path,
        progress: Echo = silent,
        ready_path: str = "/readyz",
    ) -> None:
        super().__init__(f"the {name}", log, STOP_SECONDS_MAX)
        self.name = name
        self.address = address
        self._command = command
        self._environ = environ
        self._progress = progress
        self._ready_path = ready_path
        self._last_answer: str | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ProgramEnded or, leaving it running, ProgramNotReady."""
        await self.spawn(self._command, self._environ)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_SECONDS_MAX
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS_MAX)
        waiting = WaitReporter(self._progress, "the API" if self.name == "api" else f"the {self.name}")
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await self._is_ready(session):
                waiting(self._reason)
                if not self.running:
                    status = await self.wait()
                    raise ProgramEnded(
                        f"the {self.name} ended while it started ({describe_end(status)}); "
                        f"the end of {self.log}:\n{self.last_log_lines()}"
                    )
                if loop.time() > deadline:
                    raise ProgramNotReady(
                        f"the {self.name} is not ready after {READY_SECONDS_MAX:.0f} s: {self._reason}; "
                        f"the end of {self.log}:\n{self.last_log_lines()}"
                    )
                await asyncio.sleep(POLL_SECONDS)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.address}{self._ready_path}", ssl=False) as answer:
                self._last_answer = parse_reasons(await answer.text())
                return answer.status == 200 and self.running
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._last_answer = None
            return False

    @property
    def _reason(self) -> str:
        """Why it is not ready, from /readyz or its log."""
        if self._last_answer is not None:
            return self._last_answer
        newest = self.last_log_line()
        return f"it does not answer yet; the newest line of its log: {newest}" if newest else "it does not answer yet"


def parse_reasons(body: str) -> str:
    """The reasons in an answer of `/readyz`, a list or a mapping; the body where it has another form."""
    try:
        reasons = json.loads(body)["reasons"]
        text = "; ".join(str(reason) for reason in (reasons.values() if isinstance(reasons, dict) else reasons))
    except (ValueError, KeyError, TypeError):
        text = body
    return text[:ANSWER_CHARACTERS_MAX]


def stocktide_program(
    name: str, settings: Settings, address: str, logs: Path, progress: Echo = silent, command: str | None = None
) -> Program:
    """`stocktide worker` or `stocktide api` (`command`, by default named as the program) with these settings."""
    # Clients of the one API have no other to go to while it drains.
    settings = replace(settings, drain_seconds=0)
    environ = {**os.environ, **settings.as_environment(), "PYTHONUNBUFFERED": "1"}
    command_line = [sys.executable, "-m", "stocktide", command or name]
    return Program(name, command_line, environ, address, logs / f"{name}.log", progress)


def describe_end(status: int) -> str:
    """An exit status in words: `exit status 2`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    import signal

    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
