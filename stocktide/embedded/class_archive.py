"""The class archive of the embedded Kafka: its classes as a JVM has parsed them (JEP 350), kept beside the jars.

In: a Java and a class path. Out: the JVM's options that use the archive, or that make it when a broker ends normally.
A start with it takes a third less CPU time. A JVM that cannot use the archive starts without it.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from stocktide.embedded.jars import cache_folder

# A JVM that cannot use an archive says nothing: the log is for Kafka.
_QUIET = "-Xlog:disable"
_WARNINGS = "-Xlog:all=error:stderr"


class ClassArchive:
    """The archive of one Java and one class path. `folder` holds a new one until its JVM has ended."""

    def __init__(self, java: Path, classes: str, folder: Path) -> None:
        program = java.resolve()
        identity = f"{program}\n{program.stat().st_mtime_ns}\n{classes}"
        self._name = f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self._new = folder.resolve() / "classes.jsa"

    def options(self) -> list[str]:
        """The options of a broker."""
        if used := self.use():
            return used
        self._new.unlink(missing_ok=True)
        return [f"-XX:ArchiveClassesAtExit={self._new}", _QUIET, _WARNINGS]

    def use(self) -> list[str]:
        """The options of a program that uses the archive, if there is one, and makes none."""
        for kept in cache_folder().glob(f"{self._name}-*.jsa"):
            # A JVM crashes on a file that was cut short; it checks the rest itself.
            if kept.stem.rpartition("-")[2] == str(kept.stat().st_size):
                return [f"-XX:SharedArchiveFile={kept}", "-Xshare:auto", "-XX:+VerifySharedSpaces", _QUIET, _WARNINGS]
        return []

    def keep(self, ended_normally: bool) -> None:
        """After the broker's end: move a complete archive into the cache, drop an incomplete one."""
        with suppress(OSError):  # a cache that cannot be written costs time alone
            if ended_normally and self._new.exists():
                status = self._new.stat()
                beside = cache_folder() / f"{self._name}.{status.st_ino}"
                shutil.move(self._new, beside)
                beside.replace(beside.with_name(f"{self._name}-{status.st_size}.jsa"))
        self._new.unlink(missing_ok=True)
