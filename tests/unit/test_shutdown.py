"""A process that is done ends, whatever its threads do, and a task that is cancelled cleans up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from stocktide.streams.shutdown import end, run_to_end

STUCK = """
import threading
from stocktide.streams import shutdown
shutdown.THREADS_SECONDS_MAX = 0.2
threading.Thread(target=threading.Event().wait, name="waits for ever").start()
shutdown.force_exit(3)
raise SystemExit("not reached")
"""
IN_ORDER = """
import threading, time
from stocktide.streams import shutdown
threading.Thread(target=time.sleep, args=(0.1,)).start()
shutdown.force_exit(3)
raise SystemExit(5)
"""


def ended(program: str) -> tuple[int, str, float]:
    """Exit status, standard error and seconds."""
    began = time.monotonic()
    child = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False)
    return child.returncode, child.stderr, time.monotonic() - began


def test_a_thread_that_waits_for_ever_holds_no_process() -> None:
    status, errors, seconds = ended(STUCK)
    assert status == 3 and "waits for ever does not end" in errors and seconds < 20


def test_threads_that_end_are_waited_for_and_the_process_goes_on() -> None:
    assert ended(IN_ORDER)[0] == 5


async def test_the_cleanup_of_a_task_that_is_cancelled_again_and_again_runs_to_its_end() -> None:
    cleaned = []

    async def clean(name: str) -> None:
        await asyncio.sleep(0.3)
        cleaned.append(name)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await run_to_end(clean("cancelled"))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    (outcome,) = await end(task)
    assert cleaned == ["cancelled"] and isinstance(outcome, asyncio.CancelledError)


async def test_a_cancellation_during_the_cleanup_after_an_error_takes_effect_after_it() -> None:
    cleaned = asyncio.Event()

    async def clean() -> None:
        await asyncio.sleep(0.1)
        cleaned.set()

    async def work() -> None:
        try:
            raise ValueError
        finally:
            await run_to_end(clean())

    task = asyncio.create_task(work())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
