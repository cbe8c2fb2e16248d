"""Progress: a step that takes longer than a second says so, and goes on saying so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Progress = Callable[[str], None]

# A shorter step needs no word; a longer one is repeated so that nobody takes it for dead.
QUIET_SECONDS = 1.0
REPEAT_SECONDS = 5.0


def silent(_: str) -> None:
    """The progress of a caller that wants none."""


@asynccontextmanager
async def announced(progress: Progress, what: str) -> AsyncIterator[None]:
    """Say `what` once the body has lasted a second, then again with its age in seconds."""
    talker = asyncio.create_task(_talk(progress, what))
    try:
        yield
    finally:
        talker.cancel()


async def _talk(progress: Progress, what: str) -> None:
    await asyncio.sleep(QUIET_SECONDS)
    progress(what)
    seconds = QUIET_SECONDS
    while True:
        await asyncio.sleep(REPEAT_SECONDS)
        seconds += REPEAT_SECONDS
        progress(f"{what} ({seconds:.0f} s)")
