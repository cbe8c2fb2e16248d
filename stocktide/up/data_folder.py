"""The data folder of `stocktide up`: created when absent, and locked by one process at a time."""

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
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY

LOCK_FILE = "lock"
# Long enough for an earlier `up` that is stopping.
WAIT_SECONDS_MAX = 5.0
POLL_SECONDS = 0.1
# The folder is full, not writable or broken.
_FOLDER_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@asynccontextmanager
async def lock_folder(folder: Path, progress: Echo) -> AsyncIterator[Path]:
    """Lock the folder for the body; its absolute path. The kernel releases the lock when the process ends. Folders that
    were created here and are empty at the end are removed. Raises FolderInUse, or CommandError where the folder cannot
    be created or written."""
    with _created(folder) as path:
        async with announce_if_slow(progress, f"waiting for the earlier `stocktide up` on {path} to stop"):
            descriptor = await _acquire(path)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield path
        except OSError as error:
            if error.errno in _FOLDER_ERRORS:
                raise _unusable(path, error) from error
            raise
        finally:
            # Removed while it is locked: a waiting process then notices that it locked a deleted file.
            with contextlib.suppress(OSError):
                (path / LOCK_FILE).unlink()
            os.close(descriptor)


@contextmanager
def _created(folder: Path) -> Iterator[Path]:
    """Create the folder for the body; its absolute path."""
    path = folder.absolute()
    absent = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
    except FileExistsError as error:
        raise CommandError(f"the data folder {path} cannot be used: it is a file") from error
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # not empty
            for each in absent:
                each.rmdir()


def _unusable(path: Path, error: OSError) -> CommandError:
    where = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
    return CommandError(f"the data folder {path} cannot be used: {error.strerror or error}{where}")


async def _acquire(path: Path) -> int:
    """The descriptor of the acquired lock. Raises FolderInUse, CommandError."""
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
    """Lock the file; False if another process holds it or has deleted it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == file.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
