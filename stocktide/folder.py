"""The data folder of `stocktide up`: made when absent, and held by one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stocktide.errors import FolderInUse, FrontDoorError
from stocktide.progress import Progress, announced

# An earlier `up` that was just told to stop needs a moment; one that goes on running does not leave.
WAIT_SECONDS_MAX = 5.0
POLL_SECONDS = 0.1


@asynccontextmanager
async def held_folder(folder: Path, progress: Progress) -> AsyncIterator[Path]:
    """Hold the folder for the body; its absolute path.

    The kernel frees it when the process ends, however it ends. Raises FolderInUse, or FrontDoorError where the
    folder cannot be made or written.
    """
    path, descriptor = _open_lock(folder)
    try:
        async with announced(progress, f"waiting for the earlier `stocktide up` on {path} to stop"):
            await _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield path
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> tuple[Path, int]:
    path = folder.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        return path, os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except FileExistsError as error:
        raise FrontDoorError(f"the data folder {path} cannot be used: it is a file") from error
    except OSError as error:
        raise FrontDoorError(f"the data folder {path} cannot be used: {error.strerror}") from error


async def _lock(descriptor: int, path: Path) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if asyncio.get_running_loop().time() > deadline:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise FolderInUse(
                f"another `stocktide up` (process {holder}) runs on {path}: "
                "stop it, or give this one a folder of its own with --data"
            )
        await asyncio.sleep(POLL_SECONDS)
