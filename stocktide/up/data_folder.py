"""The data folder of `stocktide up`: made when absent, and held by one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from stocktide.errors import CommandError, FolderInUse
from stocktide.progress import Echo, announce_if_slow

LOCK_FILE = "lock"
# An earlier `up` that was just told to stop needs a moment; one that goes on running does not leave.
WAIT_SECONDS_MAX = 5.0
POLL_SECONDS = 0.1
# What a folder fails with, whoever in the process meets it: full, not writable, broken.
_FOLDER_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@asynccontextmanager
async def lock_folder(folder: Path, progress: Echo) -> AsyncIterator[Path]:
    """Hold the folder for the body; its absolute path.

    The kernel frees it when the process ends, however it ends. Folders that were made here, and are empty at the end,
    are removed. Raises FolderInUse, or CommandError where the folder cannot be made or written.
    """
    with _made(folder) as path:
        async with announce_if_slow(progress, f"waiting for the earlier `stocktide up` on {path} to stop"):
            descriptor = await _hold(path)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield path
        except OSError as error:
            if error.errno in _FOLDER_FAILS:
                raise _unusable(path, error) from error
            raise
        finally:
            # Taken away while it is held: whoever waits for it sees that it holds a file that is gone.
            with contextlib.suppress(OSError):
                (path / LOCK_FILE).unlink()
            os.close(descriptor)


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """Have the folder there for the body; its absolute path."""
    path = folder.absolute()
    absent = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CommandError(f"the data folder {path} cannot be used: it is a file") from error
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # what is not empty stays
            for each in absent:
                each.rmdir()


def _unusable(path: Path, error: OSError) -> CommandError:
    where = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
    return CommandError(f"the data folder {path} cannot be used: {error.strerror or error}{where}")


async def _hold(path: Path) -> int:
    """The descriptor of the lock, held. Raises FolderInUse, CommandError."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while True:
        try:
            descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(path, error) from error
        if _lock(descriptor, path / LOCK_FILE):
            return descriptor
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        if asyncio.get_running_loop().time() > deadline:
            raise FolderInUse(
                f"another `stocktide up` (process {holder}) runs on {path}: "
                "stop it, or give this one a folder of its own with --data"
            )
        await asyncio.sleep(POLL_SECONDS)


def _lock(descriptor: int, file: Path) -> bool:
    """Whether the file is locked now, and still the one that lies there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == file.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
