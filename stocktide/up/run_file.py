"""The systems that `stocktide up` runs on this machine, as our own commands find them (decision 0012).

Each writes a file into its data folder that says where its servers are, and a pointer to that folder into the user's
cache. A system is alive while its process holds the lock of its data folder: what a dead one left behind is not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stocktide.errors import CommandError
from stocktide.up.data_folder import LOCK_FILE
from stocktide.up.ready_file import OWNER_ONLY, ReadyFile

RUN_FILE = "running.json"
# A URL of this machine may name it in any of these ways.
LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """A running system: its data folder, its number of partitions, and what its ready file says."""

    data: Path
    partitions: int
    ready: ReadyFile


class RunFile:
    """This process's own file and pointer. Where the cache cannot be written there is no pointer: `--data` still works,
    and where the data folder is full there is no file, so that nothing else suffers."""

    def __init__(self, data: Path, partitions: int) -> None:
        self._data = data.resolve()
        self._partitions = partitions
        self._pointer = pointers_folder() / f"{hashlib.sha256(bytes(self._data)).hexdigest()[:16]}.json"

    def write(self, ready: ReadyFile) -> None:
        """Write or renew both."""
        with contextlib.suppress(OSError):
            content = {**asdict(ready), "partitions": self._partitions}
            _write_whole(self._data / RUN_FILE, json.dumps(content, indent=1))
        with contextlib.suppress(OSError):
            self._pointer.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(self._pointer, json.dumps({"data": str(self._data)}))

    def remove(self) -> None:
        """Take both away."""
        for file in (self._pointer, self._data / RUN_FILE):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _write_whole(file: Path, text: str) -> None:
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.touch(mode=OWNER_ONLY)  # the URL of a Redis may hold a password
        scratch.write_text(text + "\n")
        scratch.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def pointers_folder() -> Path:
    """Where the pointers to the data folders of running systems lie."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stocktide" / "running"


def find_running_systems() -> list[RunningSystem]:
    """Every living system that this user's cache points to; one whose files may not be read is left out."""
    found: dict[Path, RunningSystem] = {}
    for data in _pointed_at():
        with contextlib.suppress(CommandError):
            if (running := find_running_system(data)) is not None:
                found[running.data] = running
    return [found[data] for data in sorted(found)]


def find_running_system(folder: Path) -> RunningSystem | None:
    """The living system on a data folder. Raises CommandError where the folder may not be read."""
    data = folder.resolve()
    try:
        if not _is_held(data / LOCK_FILE):
            return None
        content: dict[str, Any] = json.loads((data / RUN_FILE).read_text())
        ready = ReadyFile(**{spec.name: content[spec.name] for spec in fields(ReadyFile)})
        return RunningSystem(data, int(content["partitions"]), ready)
    except (FileNotFoundError, NotADirectoryError):
        return None  # it is only starting, or nothing of ours lies there
    except OSError as error:
        raise CommandError(
            f"the system on {data} cannot be looked up: {error.strerror}: {error.filename}; it may belong to another "
            "user: run the command as that one"
        ) from error
    except (ValueError, TypeError, KeyError):
        return None  # another version wrote it


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _pointed_at() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for pointer in sorted(pointers_folder().glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                yield Path(json.loads(pointer.read_text())["data"])
