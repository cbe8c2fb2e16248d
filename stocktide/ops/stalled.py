"""A command that waits ends with a reason: a bounded time in which nothing moved, whatever it waited for.

In: work, which tells now and then how far it is. Out: what the work gives, or a `Stalled` that says where it stood.
Work that computes is never taken for stalled: it counts as moved while the process uses its processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from stocktide.errors import CommandError

# A takeover takes seconds, and a Kafka that lost a broker half a minute; what stands still for longer stays so.
STILL_SECONDS_MAX = 60.0
POLL_SECONDS = 1.0
# A client that only waits uses a hundredth of a core.
BUSY_SHARE = 0.1

_T = TypeVar("_T")


class Stalled(CommandError):
    """Nothing moved for too long; the message says what was waited for."""


class StallWatchdog:
    """Watches the work of one command, step after step. `command` is what the message begins with."""

    def __init__(self, command: str, seconds_max: float | None = None) -> None:
        self._command = command
        self._seconds_max = STILL_SECONDS_MAX if seconds_max is None else seconds_max
        self._where = ""
        self._moved = False

    def moved(self, phase: str, done: int, total: int) -> None:
        """The work got so far."""
        where = f"{phase} {done:,} of {total:,}" if total else f"{phase} {done:,}"
        if where != self._where:
            self._where, self._moved = where, True

    async def of(self, what: str, work: Coroutine[Any, Any, _T]) -> _T:
        """Do the work. Raises Stalled, and what the work raises."""
        task = asyncio.ensure_future(work)
        self._where, still = "", 0.0
        look = min(POLL_SECONDS, self._seconds_max / 4)
        try:
            while not task.done():
                self._moved, began, used = False, time.monotonic(), time.process_time()
                await asyncio.wait({task}, timeout=look)
                lasted = time.monotonic() - began
                busy = time.process_time() - used > BUSY_SHARE * lasted
                still = 0.0 if self._moved or busy else still + lasted
                if still >= self._seconds_max and not task.done():
                    raise Stalled(self._sentence(what))
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # the reason is told already
                    await asyncio.wait_for(task, look)

    def _sentence(self, what: str) -> str:
        where = f" (the last that moved: {self._where})" if self._where else ""
        return (
            f"{self._command} stopped: it waited for {what}, and nothing moved for {self._seconds_max:.0f} s{where}. "
            "What was done stays; `stocktide doctor` looks at the servers, the worker's log says what it does"
        )
