"""A process that is done ends, whatever its threads do."""

from __future__ import annotations

import subprocess
import sys
import time

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
