"""The files that describe a running `stocktide up` (decision 0012).

In: the addresses and process ids of a system. Out: the ready file, which the caller of `up` names, and the run file in
the data folder with a pointer in the user's cache, by which other commands find the system. A system runs while its
process holds the lock of its data folder; the run file of a process that died is ignored.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stocktide.errors import CommandError
from stocktide.streams.owner_only import write_owner_only
from stocktide.up.data_folder import LOCK_FILE

RUN_FILE = "running.json"
# Every form of this machine's address in a URL.
LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """The ready file's content. `topics` maps our names to the broker's, `pids` a part to its process. `publisher` is
    the address of the worker that publishes, where that is a process of its own, `prometheus` that of the Prometheus of
    `--with-prometheus`."""

    api: str
    worker: str
    kafka: str
    redis: str
    app_id: str
    topics: dict[str, str]
    pids: dict[str, int]
    publisher: str = ""
    prometheus: str = ""
    # The first set by role; empty without keys. The files are for their owner only.
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def port(self) -> int:
        """The API's port."""
        return urlsplit(self.api).port or 0

    def as_json(self) -> dict[str, Any]:
        """The fields; without `publisher`, `prometheus` and `keys` where there are none."""
        content = asdict(self)
        for name in ("publisher", "prometheus", "keys"):
            if not content[name]:
                del content[name]
        return content


@dataclass(frozen=True, slots=True)
class SystemDescription:
    """A running system: its data folder, its number of partitions, and the content of its ready file."""

    data: Path
    partitions: int
    ready: ReadyFile


class RunFile:
    """This process's run file and pointer. If the cache cannot be written there is no pointer (`--data` still finds the
    system); if the data folder is full there is no run file."""

    def __init__(self, data: Path, partitions: int) -> None:
        self._data = data.resolve()
        self._partitions = partitions
        self._pointer = pointers_folder() / f"{hashlib.sha256(bytes(self._data)).hexdigest()[:16]}.json"

    def write(self, ready: ReadyFile) -> None:
        """Write or renew both."""
        with contextlib.suppress(OSError):
            _write_atomically(self._data / RUN_FILE, {**ready.as_json(), "partitions": self._partitions})
        with contextlib.suppress(OSError):
            self._pointer.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(self._pointer, {"data": str(self._data)})

    def remove(self) -> None:
        """Remove both."""
        for file in (self._pointer, self._data / RUN_FILE):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def prepare_ready_file(file: Path) -> None:
    """Remove an earlier one, and check that it can be written later. Raises CommandError."""
    # Under another name: whoever waits for the ready file must not see an empty one.
    scratch = file.with_name(f"{file.name}.check")
    try:
        write_owner_only(scratch, b"")
        scratch.unlink()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the ready file {file} cannot be written: {error.strerror}") from error


def write_ready_file(file: Path, ready: ReadyFile) -> None:
    """Write it completely or not at all. Raises CommandError where it cannot be written."""
    try:
        _write_atomically(file, ready.as_json())
    except OSError as error:
        raise CommandError(f"the ready file {file} cannot be written: {error.strerror}") from error


def _write_atomically(file: Path, content: dict[str, Any]) -> None:
    write_owner_only(file, json.dumps(content, indent=1).encode() + b"\n")


def pointers_folder() -> Path:
    """The folder of the pointers to the data folders of running systems."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stocktide" / "running"


def find_running_systems() -> list[SystemDescription]:
    """Every running system that this user's cache points to, except those whose files cannot be read."""
    found: dict[Path, SystemDescription] = {}
    for data in _pointed_folders():
        with contextlib.suppress(CommandError):
            if (system := find_running_system(data)) is not None:
                found[system.data] = system
    return [found[data] for data in sorted(found)]


def find_running_system(folder: Path) -> SystemDescription | None:
    """The running system on a data folder. Raises CommandError where the folder may not be read."""
    data = folder.resolve()
    try:
        if not _is_locked(data / LOCK_FILE):
            return None
        content: dict[str, Any] = json.loads((data / RUN_FILE).read_text())
        ready = ReadyFile(**{spec.name: content[spec.name] for spec in fields(ReadyFile) if spec.name in content})
        return SystemDescription(data, int(content["partitions"]), ready)
    except (FileNotFoundError, NotADirectoryError):
        return None  # still starting, or no data folder
    except OSError as error:
        raise CommandError(
            f"the system on {data} cannot be looked up: {error.strerror}: {error.filename}; it may belong to another "
            "user: run the command as that one"
        ) from error
    except (ValueError, TypeError, KeyError):
        return None  # written by another version


def _is_locked(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _pointed_folders() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for pointer in sorted(pointers_folder().glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                yield Path(json.loads(pointer.read_text())["data"])
