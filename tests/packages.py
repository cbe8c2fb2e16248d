"""Debian packages that some tests need, installed where that is possible.

In: a package. Out: a warning about the tests that are skipped without it.
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
    """A Debian package; `lost` says what is not tested without it."""

    name: str
    is_installed: Callable[[], bool]
    lost: str


def find_faketime() -> Path | None:
    """The library of the package `faketime`, if it is installed."""
    return next(Path("/").glob(FAKETIME.removeprefix("/")), None)


CHROMIUM = Package("chromium", lambda: find_chromium() is not None, "the tests of the pages are SKIPPED")
SECOND_REDIS = Package(
    "redis-server", lambda: shutil.which("redis-server") is not None, "the ledger is tested on Valkey ALONE"
)
CLOCKS = Package("faketime", lambda: find_faketime() is not None, "clocks that jump are NOT among the faults")


def warnings_about(package: Package, install: bool = True) -> list[str]:
    """Install a package if needed; a warning where it is missing."""
    if install and not package.is_installed() and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stdout.write(f"=== installing {package.name} for the tests (once)\n")
        sys.stdout.flush()
        _install(package.name)
    if package.is_installed():
        return []
    return [f"{package.name} is not here: {package.lost} (apt-get install {package.name})"]


def _install(name: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", name]):
            subprocess.run(
                ["apt-get", "-qq", *command], timeout=INSTALL_SECONDS_MAX, check=True, env=environ, capture_output=True
            )
    except (subprocess.SubprocessError, OSError):
        pass  # reported by `warnings_about`
