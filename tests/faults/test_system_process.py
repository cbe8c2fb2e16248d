"""A member is kept as a process manager keeps it, and rests for as long as a fault says."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from stocktide.retry import poll_until
from tests.faults import system_process as members
from tests.faults.system_process import SystemProcess

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
FORGOTTEN_SECONDS = 0.3
HALTED_SECONDS = 1.0
STATE_SECONDS_MAX = 10.0


async def test_who_is_halted_rests_for_as_long_as_was_said_and_is_continued_where_that_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "STOPPED_SECONDS", FORGOTTEN_SECONDS)
    member = SystemProcess("m", "worker", tmp_path, {}, SLEEPER)

    async def running() -> bool:
        return member.running

    async def stopped() -> bool:
        return member.is_stopped()

    async def going_on() -> bool:
        return not member.is_stopped()

    await member.start()
    try:
        assert await poll_until(running, STATE_SECONDS_MAX)
        member.halt(HALTED_SECONDS)
        assert await poll_until(stopped, STATE_SECONDS_MAX)
        await asyncio.sleep(HALTED_SECONDS - FORGOTTEN_SECONDS)
        assert member.is_stopped()
        assert await poll_until(going_on, STATE_SECONDS_MAX)
    finally:
        await member.stop()
