"""Waiting with an end: ask again and again until it holds or the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


async def poll_until(holds: Callable[[], Awaitable[bool]], seconds_max: float) -> bool:
    """Whether `holds()` came true within `seconds_max`; it is asked at least once."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    while True:
        if await holds():
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
