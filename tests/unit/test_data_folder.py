"""Waiting messages of `up`, the lock on the data folder, and the reasons of a process that is not ready."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from pathlib import Path

import pytest

from stocktide.errors import CommandError, FolderInUse
from stocktide.progress import WaitReporter, report_while_waiting, silent
from stocktide.up.data_folder import LOCK_FILE, lock_folder
from stocktide.up.program import parse_reasons
from tests.unit.fakes import FakeClock


def messages_of(*reasons: tuple[float, str | None]) -> list[str]:
    """The messages of a wait that is asked at these times with these reasons; None ends it."""
    messages: list[str] = []
    clock = FakeClock()
    waiting = WaitReporter(messages.append, "the worker", clock)
    for clock.now, reason in reasons:
        if reason is None:
            waiting.reset()
        else:
            waiting(reason)
    return messages


def test_a_short_wait_is_not_reported() -> None:
    assert messages_of((0, "a"), (9.9, "a")) == []


def test_a_long_wait_gives_its_newest_reason() -> None:
    assert messages_of((0, "a"), (12, "no partitions were assigned yet")) == [
        "waiting for the worker: no partitions were assigned yet (12 s)"
    ]


def test_a_wait_is_repeated_when_the_reason_changes_and_every_half_minute() -> None:
    at_every_second = [(float(second), "a" if second < 20 else "b") for second in range(100)]
    assert messages_of(*at_every_second) == [
        f"waiting for the worker: {reason} ({second} s)"
        for second, reason in ((10, "a"), (20, "b"), (50, "b"), (80, "b"))
    ]


def test_a_reason_that_counts_does_not_fill_the_terminal() -> None:
    assert len(messages_of(*((float(second), f"{second} of 60 rows") for second in range(60)))) == 10


def test_a_wait_that_was_over_begins_anew() -> None:
    assert messages_of((0, "a"), (8, None), (9, "a"), (18, "a"), (19, "a")) == ["waiting for the worker: a (10 s)"]


async def test_a_continuous_wait_is_reported_while_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stocktide.progress.REASON_SECONDS", 0.02)
    monkeypatch.setattr("stocktide.progress.LOOK_SECONDS", 0.005)
    messages: list[str] = []
    reasons: list[str | None] = [None]
    looking = asyncio.create_task(report_while_waiting(messages.append, "the API", lambda: reasons[0]))
    await asyncio.sleep(0.1)
    assert messages == []
    reasons[0] = "the feeds are still being read"
    await asyncio.sleep(0.2)
    looking.cancel()
    assert messages == ["waiting for the API: the feeds are still being read (0 s)"]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ('{"status": "not ready", "reasons": ["a", "b"]}', "a; b"),
        (
            '{"ready": false, "reasons": {"redis": "Redis does not answer", "feeds": "late"}}',
            "Redis does not answer; late",
        ),
        ("Bad Gateway", "Bad Gateway"),
        ("[1]", "[1]"),
    ],
)
def test_the_reasons_of_an_answer_are_read_from_either_program(body: str, reasons: str) -> None:
    assert parse_reasons(body) == reasons


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


async def test_a_folder_that_was_held_for_nothing_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "far" / "away"
    with pytest.raises(CommandError, match="no"):
        async with lock_folder(folder, silent):
            assert (folder / LOCK_FILE).read_text() == f"{os.getpid()}\n"
            raise CommandError("no")
    assert left_in(tmp_path) == []


async def test_a_folder_that_was_there_or_holds_something_stays_without_its_lock(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    async with lock_folder(empty, silent), lock_folder(full, silent):
        (full / "logs").mkdir()
    assert left_in(tmp_path) == ["empty", "full", "full/logs"]


async def test_a_folder_has_one_holder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stocktide.up.data_folder.POLL_SECONDS", 0.001)
    holders = most = 0

    async def hold() -> None:
        nonlocal holders, most
        async with lock_folder(tmp_path, silent):
            holders += 1
            most = max(most, holders)
            await asyncio.sleep(0.01)
            holders -= 1

    await asyncio.gather(*(hold() for _ in range(12)))
    assert (holders, most) == (0, 1)


async def test_a_second_holder_gets_the_pid_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stocktide.up.data_folder.WAIT_SECONDS_MAX", 0.05)
    async with lock_folder(tmp_path, silent):
        with pytest.raises(FolderInUse, match=rf"process {os.getpid()}\) runs on"):
            async with lock_folder(tmp_path, silent):
                pass
        assert (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
async def test_a_folder_that_fails_while_it_is_used_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=rf"the data folder {tmp_path}/data cannot be used: {os.strerror(number)}"):
        async with lock_folder(tmp_path / "data", silent):
            raise OSError(number, os.strerror(number))
    with pytest.raises(ConnectionResetError):
        async with lock_folder(tmp_path / "data", silent):
            raise ConnectionResetError(errno.ECONNRESET, "a server that went is no matter of the folder")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a full disk is mounted, which takes root")
async def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    mounting = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path))
    if await mounting.wait():
        pytest.skip("nothing can be mounted here")
    try:
        with contextlib.suppress(OSError):
            (tmp_path / "filler").write_bytes(bytes(1024 * 1024))
        with pytest.raises(CommandError, match="No space left on device"):
            async with lock_folder(tmp_path / "data", silent):
                pass
    finally:
        await (await asyncio.create_subprocess_exec("umount", str(tmp_path))).wait()


async def test_a_new_data_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    async with lock_folder(tmp_path / "data", silent) as folder:
        assert folder.stat().st_mode & 0o077 == 0
