"""The supervision of a process under test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from stocktide.retry import poll_until
from tests.faults import system_process as module
from tests.faults.system_process import SystemProcess

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
LIMIT_SECONDS = 0.3
PAUSED_SECONDS = 1.0
STATE_SECONDS_MAX = 10.0


async def test_a_paused_process_is_continued_after_its_time_and_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOPPED_SECONDS_MAX", LIMIT_SECONDS)
    member = SystemProcess("m", "worker", tmp_path, {}, SLEEPER)

    async def running() -> bool:
        return member.is_running

    async def stopped() -> bool:
        return member.is_stopped()

    async def is_continued() -> bool:
        return not member.is_stopped()

    await member.start()
    try:
        assert await poll_until(running, STATE_SECONDS_MAX)
        member.pause(PAUSED_SECONDS)
        assert await poll_until(stopped, STATE_SECONDS_MAX)
        await asyncio.sleep(PAUSED_SECONDS - LIMIT_SECONDS)
        assert member.is_stopped()
        assert await poll_until(is_continued, STATE_SECONDS_MAX)
    finally:
        await member.stop()
