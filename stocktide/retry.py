"""Polling with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


async def poll_until(holds: Callable[[], Awaitable[bool]], seconds_max: float) -> bool:
    """Poll `holds` until it is true or `seconds_max` are over, at least once; whether it became true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    while True:
        if await holds():
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
