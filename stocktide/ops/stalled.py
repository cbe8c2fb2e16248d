"""A watchdog for commands: work that makes no progress for a bounded time ends with a reason.

In: work that reports its progress. Out: its result, or a `Stalled` error with the last progress. CPU time of the
process counts as progress, so that computing work never stalls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from stocktide.errors import CommandError

# A takeover takes seconds, the loss of a Kafka broker half a minute; a longer standstill does not end by itself.
STILL_SECONDS_MAX = 60.0
POLL_SECONDS = 1.0
# A client that only waits uses a hundredth of a core.
BUSY_SHARE = 0.1

_T = TypeVar("_T")


class Stalled(CommandError):
    """Nothing moved for too long; the message says what was waited for."""


class StallWatchdog:
    """Watches the steps of one command. `command` begins the error message."""

    def __init__(self, command: str, seconds_max: float | None = None) -> None:
        self._command = command
        self._seconds_max = STILL_SECONDS_MAX if seconds_max is None else seconds_max
        self._progress = ""
        self._has_moved = False

    def report(self, phase: str, done: int, total: int) -> None:
        """Record the progress of the current step."""
        progress = f"{phase} {done:,} of {total:,}" if total else f"{phase} {done:,}"
        if progress != self._progress:
            self._progress, self._has_moved = progress, True

    async def run(self, subject: str, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a step; `subject` is what it waits for. Raises Stalled, and what the work raises."""
        task = asyncio.ensure_future(work)
        self._progress, still = "", 0.0
        poll = min(POLL_SECONDS, self._seconds_max / 4)
        try:
            while not task.done():
                self._has_moved, began, used = False, time.monotonic(), time.process_time()
                await asyncio.wait({task}, timeout=poll)
                lasted = time.monotonic() - began
                busy = time.process_time() - used > BUSY_SHARE * lasted
                still = 0.0 if self._has_moved or busy else still + lasted
                if still >= self._seconds_max and not task.done():
                    raise Stalled(self._message(subject))
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # Stalled already has the reason
                    await asyncio.wait_for(task, poll)

    def _message(self, subject: str) -> str:
        last = f" (the last that moved: {self._progress})" if self._progress else ""
        return (
            f"{self._command} stopped: it waited for {subject}, and nothing moved for {self._seconds_max:.0f} s{last}. "
            "What was done stays; `stocktide doctor` looks at the servers, the worker's log says what it does"
        )
