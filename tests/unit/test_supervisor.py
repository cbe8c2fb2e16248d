"""The supervisor restarts children, stops them in order, and no child outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import LOG_BYTES_MAX, ChildProcess, rotate_log
from stocktide.errors import CommandError
from stocktide.settings import Settings
from stocktide.up.program import Program, ProgramEnded
from stocktide.up.run_file import ReadyFile
from stocktide.up.supervisor import Supervisor
from stocktide.up.system import System, UpOptions
from tests.harness.eventually import eventually

FAKE = str(Path(__file__).with_name("fake_program.py"))
SECONDS_MAX = 20.0


def serving(name: str, folder: Path) -> Program:
    """A program that is ready at once."""
    port = pick_free_port()
    command = [sys.executable, FAKE, "serve", str(port)]
    return Program(name, command, {}, f"http://127.0.0.1:{port}", folder / f"{name}.log")


def ending(folder: Path) -> Program:
    """A program that ends at once with status 3 and a message."""
    command = [sys.executable, FAKE, "end", "3", "no stock today"]
    return Program("worker", command, {}, f"http://127.0.0.1:{pick_free_port()}", folder / "worker.log")


@asynccontextmanager
async def watched(programs: list[Program], messages: list[str], restarts: list[int]) -> AsyncIterator[None]:
    """The programs under supervision, stopped at the end."""
    supervisor = Supervisor(programs, messages.append, lambda: restarts.append(1))
    for program in programs:
        await program.start()
    watching = asyncio.create_task(supervisor.watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for program in programs:
            await program.stop()


async def test_a_killed_child_is_restarted_and_reported(tmp_path: Path) -> None:
    program = serving("worker", tmp_path)
    messages: list[str] = []
    restarts: list[int] = []
    async with watched([program], messages, restarts):
        first = program.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: bool(restarts))
        assert program.pid != first
    assert messages == [
        "worker ended (killed by SIGKILL), starting it again in 0.1 s",
        f"worker is back (process {program.pid})",
    ]


async def test_a_child_that_ends_while_it_starts_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ProgramEnded, match=r"the worker ended while it started \(exit status 3\)") as caught:
        await ending(tmp_path).start()
    assert "no stock today" in str(caught.value)


async def test_lines_of_an_earlier_start_are_not_quoted(tmp_path: Path) -> None:
    program = ending(tmp_path)
    program.log.parent.mkdir(exist_ok=True, parents=True)
    program.log.write_text("stopping\n")
    with pytest.raises(ProgramEnded) as caught:
        await program.start()
    assert "no stock today" in str(caught.value) and "stopping" not in str(caught.value)


async def test_a_child_that_keeps_ending_gets_growing_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    program = ending(tmp_path)

    async def sleep(seconds: float) -> None:
        if asyncio.current_task() is not task:  # other tasks of the session sleep too
            return await real_sleep(seconds)
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError
        return await real_sleep(0)

    real_sleep, task = asyncio.sleep, asyncio.current_task()
    await program.spawn(program._command)
    monkeypatch.setattr("stocktide.up.supervisor.asyncio.sleep", sleep)
    monkeypatch.setattr(program, "start", lambda: _refuse())
    with pytest.raises(asyncio.CancelledError):
        await Supervisor([program], lambda _: None, lambda: None)._restart_forever(program)
    assert pauses == [0.1, 0.2, 0.4, 0.8]


async def _refuse() -> None:
    raise ProgramEnded("still no stock")


async def test_a_child_that_ignores_the_term_signal_is_killed(tmp_path: Path) -> None:
    child = ChildProcess("stubborn", tmp_path / "log")
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    await child.spawn([sys.executable, "-c", code])
    await eventually(lambda: b"up" in child.log.read_bytes())
    await child.stop(0.2)
    assert await child.wait() == -signal.SIGKILL


async def test_a_program_that_is_not_ours_gets_no_secret_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKTIDE_REDIS_PASSWORD", "HUSH")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HUSH")
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    child = ChildProcess("foreign", tmp_path / "logs" / "log")
    await child.spawn(["env"])
    assert await child.wait() == 0
    given = child.log.read_text().splitlines()
    # With another LC_CTYPE a JVM could not open a folder with a Chinese name.
    assert "LC_CTYPE=C.UTF-8" in given and not any("HUSH" in line for line in given)
    assert child.log.parent.stat().st_mode & 0o077 == 0, "a log may quote what was sent"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
async def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from stocktide.embedded.process import ChildProcess\n"
        "async def main():\n"
        "    child = ChildProcess('child', Path(sys.argv[1]))\n"
        "    await child.spawn(['sleep', '60'])\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with _started(command) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    await eventually(lambda: not _is_running(child))


def test_a_log_that_is_too_long_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES_MAX + 1)
    rotate_log(log)
    assert log.stat().st_size == 0
    assert (tmp_path / "worker.log.1").stat().st_size == LOG_BYTES_MAX + 1


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS_MAX)


def _is_running(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_system_is_supervised_until_the_work_beside_it_ends(tmp_path: Path) -> None:
    system = System(Settings(data=tmp_path), UpOptions(), lambda _: None)
    began = asyncio.Event()

    async def work(_: ReadyFile) -> None:
        began.set()

    async def fail(_: ReadyFile) -> None:
        raise CommandError("a number differs")

    await asyncio.wait_for(system.supervise(work, until_done=True), SECONDS_MAX)
    assert began.is_set()
    with pytest.raises(CommandError, match="a number differs"):
        await asyncio.wait_for(system.supervise(fail, until_done=True), SECONDS_MAX)
    began.clear()
    supervising = asyncio.create_task(system.supervise(work))
    await asyncio.wait_for(began.wait(), SECONDS_MAX)
    await asyncio.sleep(0.05)
    assert not supervising.done(), "without until_done it goes on"
    supervising.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervising
