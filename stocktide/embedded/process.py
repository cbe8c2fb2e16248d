"""A child process that cannot outlive its parent.

In: a command, its environment, a log. Out: its pid, its exit status. Each child has its own session, so that Ctrl-C on
the terminal reaches only the parent, which stops its children in order. On Linux the kernel kills a child whose parent
dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stocktide.errors import CommandError
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY

# The part of a log that an error message quotes: enough for the first lines of a Java stack trace.
QUOTED_LINES_MAX = 12
QUOTED_BYTES_MAX = 16 * 1024
# The part of a log line that the terminal shows.
NEWEST_CHARACTERS_MAX = 300
# A longer log is rotated, with one generation kept.
LOG_BYTES_MAX = 32 * 1024 * 1024
STOP_SECONDS_MAX = 15.0
# After SIGKILL only the kernel's own delays remain.
REAP_SECONDS_MAX = 5.0

# What programs that are not ours read: the C library, a JVM, the runtime of Go. The rest may hold secrets of ours.
FOREIGN_VARIABLES = (
    *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"),
    *("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"),
    *("GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG"),
)

_PR_SET_PDEATHSIG = 1
# Looked up at import: between fork and exec nothing may be imported or allocated.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs in the child before exec: the kernel will send SIGKILL when the parent dies."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def foreign_environment() -> dict[str, str]:
    """The environment of a program that is not ours."""
    return {name: os.environ[name] for name in FOREIGN_VARIABLES if name in os.environ}


class ChildProcess:
    """A program as a child process; it may be started again after its end. `title` is its name in messages,
    `stop_seconds_max` its time to end by itself."""

    def __init__(self, title: str, log: Path, stop_seconds_max: float = STOP_SECONDS_MAX) -> None:
        self.title = title
        self.log = log
        self._stop_seconds_max = stop_seconds_max
        self._process: asyncio.subprocess.Process | None = None
        # Where the log of this start begins: lines of an earlier one would mislead.
        self._log_begins = 0

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def ended_normally(self) -> bool:
        """Whether it has ended, by itself or after SIGTERM."""
        status = self._process.returncode if self._process else None
        return status in (0, -signal.SIGTERM, 128 + signal.SIGTERM)

    async def spawn(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Start `command` and append its output to the log; without `environ` in that of a program that is not ours.
        Raises CommandError if it cannot run."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
        rotate_log(self.log)
        with self.log.open("ab") as output:
            self._log_begins = output.tell()
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=foreign_environment() if environ is None else dict(environ),
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )
            try:
                self._process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # It may run already; `stop` needs its handle.
                with contextlib.suppress(OSError):
                    self._process = await starting
                raise
            except OSError as error:
                raise CommandError(f"{self.title} cannot be started: {command[0]}: {error.strerror}") from error

    async def wait(self) -> int:
        """Wait for its end; the exit status, or minus the signal that ended it."""
        if self._process is None:
            raise RuntimeError(f"{self.title} was not started")
        return await self._process.wait()

    async def stop(self, seconds_max: float | None = None) -> None:
        """SIGTERM, then after `seconds_max` (None: `stop_seconds_max`) SIGKILL to its process group. Returns after its
        end."""
        if self._process is None:
            return
        if self.running:
            self.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._process.wait(), self._stop_seconds_max if seconds_max is None else seconds_max
                )
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), REAP_SECONDS_MAX)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; no effect after its end."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to its process group, while it runs: afterwards the id may belong to another process."""
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_log_lines(self) -> str:
        """The last lines of its log, for an error message."""
        return tail_log(self.log, self._log_begins)

    def last_log_line(self) -> str:
        """The last line of its log; empty if there is none."""
        return tail_log(self.log, self._log_begins).rpartition("\n")[2].strip()[:NEWEST_CHARACTERS_MAX]


def tail_log(log: Path, begins: int = 0) -> str:
    """The last lines of a file after its first `begins` bytes, each indented by four spaces; empty if there are none. A
    file that has been truncated since is read from its beginning."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begins if begins <= size else 0, size - QUOTED_BYTES_MAX))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-QUOTED_LINES_MAX:])


def rotate_log(log: Path) -> None:
    """Copy a long log to `<name>.1` and truncate it; its writer appends and needs no restart."""
    try:
        if log.stat().st_size <= LOG_BYTES_MAX:
            return
        aside = log.with_name(f"{log.name}.1")
        with log.open("rb") as source, aside.open("wb") as target:
            while chunk := source.read(1024 * 1024):
                target.write(chunk)
        os.truncate(log, 0)
    except FileNotFoundError:
        return
