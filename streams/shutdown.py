"""Reliable termination of tasks and of the process.

In: tasks; an exit status. Out: tasks that are done. On Python 3.11 `asyncio.wait_for` loses a cancellation that arrives
just when its awaitable completes (python/cpython issue 86296), and redis-py sends every command through it: a task that
is cancelled once may continue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)

# Time after which a task that did not end is cancelled again.
_RETRY_SECONDS = 0.05
# Time for threads to end; they have no work left.
THREADS_SECONDS_MAX = 3.0


async def end(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Cancel `tasks` until all are done; gives the result or exception of each, in order. A cancellation of the caller
    takes effect after that."""
    pending, cancelled = set(tasks), None
    while pending:
        for task in pending:
            task.cancel()
        try:
            _, pending = await asyncio.wait(pending, timeout=_RETRY_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {task for task in pending if not task.done()}
    if cancelled is not None:
        raise cancelled
    return await asyncio.gather(*tasks, return_exceptions=True)


async def run_to_end(work: Coroutine[Any, Any, None]) -> None:
    """Run the cleanup of a task, which limits its time itself: `end` cancels the task again and again meanwhile. A
    cancellation takes effect after that."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def force_exit(status: int) -> None:
    """Exit with `status` if a thread does not end; return if all of them do.

    Faust's consumer runs in a thread with its own loop and may wait there for an unreachable Kafka. The interpreter
    would wait for that thread, and a supervisor for the interpreter.
    """
    deadline = time.monotonic() + THREADS_SECONDS_MAX
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
    for other in others:
        other.join(max(0.0, deadline - time.monotonic()))
    if left := [other.name for other in others if other.is_alive()]:
        logger.warning("%s does not end: the process ends without it", ", ".join(left))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
