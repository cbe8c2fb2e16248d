"""What a running `stocktide up` tells whoever started it: the ready file. `running.py` is for our own commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stocktide.errors import CommandError

# The URL of a Redis may hold a password.
OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class ReadyFile:
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
    """Take away an earlier one, and see that it can be written later. Raises CommandError."""
    scratch = _scratch(file)
    try:
        scratch.write_text("")
        scratch.unlink()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the ready file {file} cannot be written: {error.strerror}") from error


def _scratch(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def write_ready_file(file: Path, ready: ReadyFile) -> None:
    """Write it whole or not at all. Raises CommandError where it cannot be written."""
    scratch = _scratch(file)
    try:
        scratch.touch(mode=OWNER_ONLY)
        scratch.write_text(json.dumps(asdict(ready), indent=1) + "\n")
        scratch.replace(file)
    except OSError as error:
        raise CommandError(f"the ready file {file} cannot be written: {error.strerror}") from error
