"""The gate: what `make check` and CI run. Format, lint, types, tests; it stops at nothing and sums up.

The tests come last, and their output is the last, so that pytest's closing line closes the whole.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.packages import CHROMIUM, SECOND_REDIS, note_of

# Most of the time tests wait for servers that start, die and come back: two of them wait at once. A file's tests share
# a system and stay together.
TESTERS = 2
# All of it has to end within ten minutes on two cores; a step that hangs is ended and counts as failed.
STEP_SECONDS_MAX = 1_500


@dataclass(frozen=True, slots=True)
class CheckStep:
    """How a step ended."""

    name: str
    passed: bool
    seconds: float


def main() -> int:
    """Run every step; 0 if all passed."""
    notes = [note for note in (note_of(CHROMIUM), note_of(SECOND_REDIS, install=False)) if note]
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
    tests = step("tests", "pytest", "-m", "not soak", "-n", str(TESTERS), "--dist", "loadfile")
    return 0 if all(result.passed for result in (*results, tests)) else report_failed([*results, tests])


def report_failed(results: Sequence[CheckStep]) -> int:
    """Name what failed on the error stream, so that standard output ends with pytest's own closing line."""
    failed = ", ".join(result.name for result in results if not result.passed)
    sys.stderr.write(f"make check: failed: {failed}\n")
    sys.stderr.flush()
    return 1


def step(name: str, module: str, *arguments: str) -> CheckStep:
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
    return CheckStep(name, status == 0, time.monotonic() - started)


def summary(result: CheckStep) -> str:
    """One line for a step."""
    return f"{result.name:<8} {'passed' if result.passed else 'FAILED'} in {result.seconds:.1f} s"


def say(line: str) -> None:
    """A line at once, before what the next step prints."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
