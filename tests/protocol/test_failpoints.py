"""Failpoints do nothing unless they are set, and then act as set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stocktide.streams import failpoints


def test_an_unset_failpoint_is_a_function_that_does_nothing() -> None:
    assert failpoints.make_hit("") is failpoints.make_hit("  ")
    failpoints.make_hit("")("after_apply")


def test_another_point_and_an_improbable_one_do_nothing() -> None:
    fail = failpoints.make_hit("after_apply=kill:0.5", draw=lambda: 0.7)
    fail("after_apply")
    fail("before_send")


@pytest.mark.parametrize("text", ["nowhere=kill", "after_apply=explode", "after_apply", "after_apply=kill:often"])
def test_an_unreadable_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        failpoints.make_hit(text)


def test_a_file_sets_failpoints_while_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[signal.Signals] = []
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    file = tmp_path / "points"
    fail = failpoints.make_hit(f"@{file}")
    fail("after_apply")
    file.write_text("after_apply=kill")
    fail("before_send")
    fail("after_apply")
    assert sent == [signal.SIGKILL]
    file.write_text("")
    fail("after_apply")
    file.unlink()
    fail("after_apply")
    assert sent == [signal.SIGKILL]


_HIT = "from stocktide.streams import failpoints; failpoints.hit('after_apply'); print('went on')"


def test_kill_ends_the_process_at_the_point() -> None:
    environ = {**os.environ, "STOCKTIDE_FAILPOINTS": "after_apply=kill"}
    ended = subprocess.run([sys.executable, "-c", _HIT], env=environ, capture_output=True, timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""


def test_stop_halts_the_process_until_it_is_continued() -> None:
    environ = {**os.environ, "STOCKTIDE_FAILPOINTS": "after_apply=stop:1"}
    child = subprocess.Popen([sys.executable, "-c", _HIT], env=environ, stdout=subprocess.PIPE)
    try:
        stopped = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped is not None
        assert stopped.si_code == os.CLD_STOPPED
        time.sleep(0.05)
        assert child.poll() is None
        child.send_signal(signal.SIGCONT)
        assert child.communicate(timeout=30)[0] == b"went on\n"
    finally:
        child.kill()
