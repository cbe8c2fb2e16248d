"""The supervision of a process under test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.faults import system_process as module
from tests.faults.system_process import SystemProcess
from tests.harness.eventually import eventually

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
LIMIT_SECONDS = 0.3
PAUSED_SECONDS = 1.0


async def test_a_paused_process_is_continued_after_its_time_and_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOPPED_SECONDS_MAX", LIMIT_SECONDS)
    member = SystemProcess("m", "worker", tmp_path, {}, SLEEPER)

    await member.start()
    try:
        await eventually(lambda: member.is_running)
        member.pause(PAUSED_SECONDS)
        await eventually(member.is_stopped)
        await asyncio.sleep(PAUSED_SECONDS / 2)
        assert member.is_stopped()
        await eventually(lambda: not member.is_stopped())
    finally:
        await member.stop()
