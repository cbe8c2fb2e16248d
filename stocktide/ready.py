"""What a running `stocktide up` tells others: the ready file, and a note by which our own commands find it.

The note lies in the user's cache folder under the API's port, locked while the process lives; so `stocktide
replay` beside a running `stocktide up` needs no address.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from stocktide.errors import FrontDoorError

# The URL of a Redis may hold a password.
OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Ready:
    """The ready file's content. `topics` maps our names to the broker's, `pids` a part to its process."""

    api: str
    worker: str
    kafka: str
    redis: str
    app_id: str
    topics: dict[str, str]
    pids: dict[str, int]

    @property
    def port(self) -> int:
        """The API's port."""
        return urlsplit(self.api).port or 0


def prepare_ready_file(file: Path) -> None:
    """Take away an earlier one, and see that it can be written later. Raises FrontDoorError."""
    scratch = _scratch(file)
    try:
        scratch.write_text("")
        scratch.unlink()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise FrontDoorError(f"the ready file {file} cannot be written: {error.strerror}") from error


def _scratch(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def write_ready_file(file: Path, ready: Ready) -> None:
    """Write it whole or not at all. Raises FrontDoorError where it cannot be written."""
    scratch = _scratch(file)
    try:
        scratch.touch(mode=OWNER_ONLY)
        scratch.write_text(json.dumps(asdict(ready), indent=1) + "\n")
        scratch.replace(file)
    except OSError as error:
        raise FrontDoorError(f"the ready file {file} cannot be written: {error.strerror}") from error


def notes_folder() -> Path:
    """Where the notes of running systems lie."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stocktide" / "running"


class Note:
    """This process's own note, held while it runs. Where the cache cannot be written there is none."""

    def __init__(self, port: int) -> None:
        self._path = notes_folder() / f"{port}.json"
        self._file: IO[str] | None = None

    def write(self, ready: Ready) -> None:
        """Write or renew it."""
        with contextlib.suppress(OSError):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch(mode=OWNER_ONLY)
                self._file = self._path.open("a+")
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps(asdict(ready)))
            self._file.flush()

    def remove(self) -> None:
        """Take it away."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def find_running(port: int | None, fallback_port: int) -> Ready | None:
    """The system whose API is on `port`; with None the one on `fallback_port`, else the only one there is."""
    found = {ready.port: ready for ready in _living_notes()}
    if port is not None:
        return found.get(port)
    if fallback_port in found:
        return found[fallback_port]
    return next(iter(found.values())) if len(found) == 1 else None


def _living_notes() -> Iterator[Ready]:
    for path in sorted(notes_folder().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # its writer lives
                content: dict[str, Any] = json.load(file)
                yield Ready(**content)
