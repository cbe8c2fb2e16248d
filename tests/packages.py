"""What only some machines have and the tests want: Debian's packages, installed where that is possible.

In: nothing. Out: a sentence for each that is not here, to be said loudly: what it covers is then not tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.browser.chromium import find_chromium

INSTALL_SECONDS_MAX = 300

FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of Debian; `lost` says what is not tested without it."""

    name: str
    here: Callable[[], bool]
    lost: str


def find_faketime() -> Path | None:
    """The library of the package `faketime`, where it is installed."""
    return next(Path("/").glob(FAKETIME.removeprefix("/")), None)


CHROMIUM = Package("chromium", lambda: find_chromium() is not None, "the tests of the pages are SKIPPED")
SECOND_REDIS = Package(
    "redis-server", lambda: shutil.which("redis-server") is not None, "the ledger is tested on Valkey ALONE"
)
CLOCKS = Package("faketime", lambda: find_faketime() is not None, "clocks that jump are NOT among the faults")


def note_of(package: Package, install: bool = True) -> str | None:
    """Have a package there; what to say where it is not."""
    if package.here():
        return None
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stdout.write(f"=== installing {package.name} for the tests (once)\n")
        sys.stdout.flush()
        _install(package.name)
        if package.here():
            return None
    return f"{package.name} is not here: {package.lost} (apt-get install {package.name})"


def _install(name: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", name]):
            subprocess.run(
                ["apt-get", "-qq", *command],
                timeout=INSTALL_SECONDS_MAX,
                check=True,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    except (subprocess.SubprocessError, OSError):
        pass  # `note_of` says that it is not here
