"""Ends tasks, surely.

In: tasks. Out: they are over. On Python 3.11 `asyncio.wait_for` loses a cancellation that comes in the very moment in
which what it waits for is done (python/cpython issue 86296), and redis-py sends every command through it: a task that
was cancelled once may go on as if nothing had been.
"""

from __future__ import annotations

import asyncio
from typing import Any

# How long a task has to end before it is cancelled again.
_PATIENCE_SECONDS = 0.05


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
