"""The steps of `make check` and CI: format, lint, types, tests. All steps run, then the failed ones are listed.

The tests come last, so that pytest's closing line is the last line of the output.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from tests.packages import CHROMIUM, CLOCKS, SECOND_REDIS, warnings_about

# Tests mostly wait for servers, so two processes run at once. The tests of a file share a system and stay together.
PROCESSES = 2
# Far beyond the ten minutes that all steps take on two cores; a step that hangs is ended and fails.
STEP_SECONDS_MAX = 1_500


@dataclass(frozen=True, slots=True)
class CheckStep:
    """The result of a step."""

    name: str
    passed: bool
    seconds: float


def main() -> int:
    """Run every step; 0 if all passed. With `--all`, a missing package is a failure too."""
    is_strict = "--all" in sys.argv[1:]
    warnings = warnings_about(CHROMIUM, SECOND_REDIS, *([CLOCKS] if is_strict else []))
    steps = [
        step("format", "ruff", "format", "--check", "--quiet", "."),
        step("lint", "ruff", "check", "--quiet", "."),
        step("lua", "tests.lua_lint"),
        step("types", "mypy"),
    ]
    say("")
    for warning in warnings:
        say(f"!!! {warning}")
    for done in steps:
        say(f"{done.name:<8} {'passed' if done.passed else 'FAILED'} in {done.seconds:.1f} s")
    steps.append(step("tests", "pytest", "-m", "not soak", "-n", str(PROCESSES), "--dist", "loadfile"))
    failed = [done.name for done in steps if not done.passed] + ["packages"] * bool(is_strict and warnings)
    if failed:  # on standard error: standard output ends with pytest's closing line
        sys.stderr.write(f"make check: failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def step(name: str, module: str, *arguments: str) -> CheckStep:
    """Run one tool of the environment; its output is passed through."""
    say(f"=== {name}")
    started = time.monotonic()
    try:
        command = [sys.executable, "-m", module, *arguments]
        status = subprocess.run(command, timeout=STEP_SECONDS_MAX, check=False).returncode
    except subprocess.TimeoutExpired:
        say(f"{name} was ended after {STEP_SECONDS_MAX} s")
        status = -1
    return CheckStep(name, status == 0, time.monotonic() - started)


def say(line: str) -> None:
    """Write a line at once, before the output of the next step."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
