"""Files that only their owner may read: keys, passwords, copies of data.

In: a path and its content. Out: the file, whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OWNER_ONLY = 0o600
FOLDER_OWNER_ONLY = 0o700


def write_owner_only(file: Path, content: bytes) -> None:
    """Replace a file as a whole, readable by its owner only. Raises OSError."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
