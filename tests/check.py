"""The gate: what `make check` and CI run. Format, lint, types, tests; it stops at nothing and sums up.

The tests come last, and their output is the last, so that pytest's closing line closes the whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

# All of it has to end within ten minutes on two cores; a step that hangs is ended and counts as failed.
STEP_SECONDS_MAX = 1_500
INSTALL_SECONDS_MAX = 300

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Result:
    """How a step ended."""

    name: str
    passed: bool
    seconds: float


def main() -> int:
    """Run every step; 0 if all passed."""
    notes = [note for note in (chromium_note(), redis_note()) if note]
    results = [
        step("format", "ruff", "format", "--check", "--quiet", "."),
        step("lint", "ruff", "check", "--quiet", "."),
        step("types", "mypy"),
    ]
    say("")
    for note in notes:
        say(f"!!! {note}")
    for result in results:
        say(summary(result))
    tests = step("tests", "pytest", "-m", "not soak")
    return 0 if all(result.passed for result in (*results, tests)) else report_failed([*results, tests])


def report_failed(results: Sequence[Result]) -> int:
    """Name what failed on the error stream, so that standard output ends with pytest's own closing line."""
    failed = ", ".join(result.name for result in results if not result.passed)
    sys.stderr.write(f"make check: failed: {failed}\n")
    sys.stderr.flush()
    return 1


def step(name: str, module: str, *arguments: str) -> Result:
    """Run one tool of the environment, its output passed through."""
    say(f"=== {name}")
    started = time.monotonic()
    try:
        status = subprocess.run(
            [sys.executable, "-m", module, *arguments], timeout=STEP_SECONDS_MAX, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        say(f"{name} was ended after {STEP_SECONDS_MAX} s")
        status = -1
    return Result(name, status == 0, time.monotonic() - started)


def summary(result: Result) -> str:
    """One line for a step."""
    return f"{result.name:<8} {'passed' if result.passed else 'FAILED'} in {result.seconds:.1f} s"


def chromium_note() -> str | None:
    """Have Chromium there for the tests of the board; what to say where it is not."""
    if any(shutil.which(name) for name in CHROMIUM_NAMES):
        return None
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("=== installing Chromium for the tests of the board (once)")
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
                subprocess.run(
                    ["apt-get", "-qq", *command],
                    timeout=INSTALL_SECONDS_MAX,
                    check=True,
                    env=environ,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except (subprocess.SubprocessError, OSError):
            pass
        if any(shutil.which(name) for name in CHROMIUM_NAMES):
            return None
    return "Chromium is not here: the tests of the board are SKIPPED (apt-get install chromium)"


def redis_note() -> str | None:
    """What to say where the second server of the ledger's tests is not there."""
    if shutil.which("redis-server"):
        return None
    return "redis-server is not here: the ledger is tested on Valkey ALONE (apt-get install redis-server)"


def say(line: str) -> None:
    """A line at once, before what the next step prints."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
