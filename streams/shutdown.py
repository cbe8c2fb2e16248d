"""Ends tasks, and a process, surely.

In: tasks; a process that is done. Out: they are over. On Python 3.11 `asyncio.wait_for` loses a cancellation that comes
in the very moment in which what it waits for is done (python/cpython issue 86296), and redis-py sends every command
through it: a task that was cancelled once may go on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any

logger = logging.getLogger(__name__)

# How long a task has to end before it is cancelled again.
_PATIENCE_SECONDS = 0.05
# How long threads have to end once everything else has: they have nothing left to do.
THREADS_SECONDS_MAX = 3.0


async def end(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Cancel `tasks` until each is over, and give what each came to, in order: its result or its exception. If the
    caller itself is cancelled meanwhile, that takes effect when they are over."""
    pending, cancelled = set(tasks), None
    while pending:
        for task in pending:
            task.cancel()
        try:
            _, pending = await asyncio.wait(pending, timeout=_PATIENCE_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {task for task in pending if not task.done()}
    if cancelled is not None:
        raise cancelled
    return await asyncio.gather(*tasks, return_exceptions=True)


def force_exit(status: int) -> None:
    """End this process with `status` if a thread does not end; return where all of them do.

    Faust's consumer lives in a thread with a loop of its own, and waits there for a Kafka that is away: the interpreter
    would wait for that thread for ever, and whoever starts processes anew would wait for the interpreter.
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
