"""The steps of `make check` and CI: format, lint, types, docs, tests. All steps run, then the failed ones are listed.

The sources are checked beside the tests, which leave some of two cores idle; their results come while the tests go on,
so that pytest's closing line is the last line of the output.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stocktide.embedded import EmbeddedKafka
from tests.harness.process import started
from tests.harness.servers import SHARED_KAFKA
from tests.packages import CHROMIUM, CLOCKS, HELM, NODE, NPM, OPENSSL, PROMETHEUS, SECOND_REDIS, SYSTEMD, warnings_about

# Tests of servers wait half of the time: more processes than the two cores of a small machine. The tests of a file
# share a system and stay together; the files that take longest come first (tests/conftest.py).
PROCESSES = 4
TESTS = ("-m", "not soak", "-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder")
# What `make check` warns of, where it is missing.
NEEDED = (CHROMIUM, SECOND_REDIS, NODE, NPM, HELM, SYSTEMD, PROMETHEUS, OPENSSL)
# Far beyond the ten minutes that all steps take on two cores; a step that hangs is ended and fails.
STEP_SECONDS_MAX = 1_500


@dataclass(frozen=True, slots=True)
class CheckStep:
    """The result of a step."""

    name: str
    passed: bool
    seconds: float


async def main() -> int:
    """Run every step; 0 if all passed. With `--all`, a missing package is a failure too."""
    is_strict = "--all" in sys.argv[1:]
    warnings = warnings_about(*NEEDED, *([CLOCKS] if is_strict else []))
    # Hundreds of processes of the tests import the same modules: each is compiled once.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        compiling = asyncio.create_task(compile_tests())
        for warning in warnings:
            say(f"!!! {warning}")
        async with started(EmbeddedKafka(Path(folder), Path(folder) / "kafka.log")) as kafka:
            await compiling
            os.environ[SHARED_KAFKA] = kafka.address
            checking = asyncio.create_task(asyncio.to_thread(check_sources))
            say("=== tests")
            tests = await asyncio.to_thread(run, "tests", "pytest", *TESTS)
            steps = [*await checking, tests]
    failed = [done.name for done in steps if not done.passed] + ["packages"] * bool(is_strict and warnings)
    if failed:  # on standard error: standard output ends with pytest's closing line
        sys.stderr.write(f"make check: failed: {', '.join(failed)}\n")
    return 1 if failed else 0


async def compile_tests() -> None:
    """Import all tests once, so that the processes that run them find compiled modules. The tests report an error."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq"]
    collecting = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await collecting.wait()


def check_sources() -> list[CheckStep]:
    """The steps that run nothing of the product."""
    return [
        source_step("format", "ruff", "format", "--check", "--quiet", "."),
        source_step("lint", "ruff", "check", "--quiet", "."),
        source_step("lua", "tests.lua_lint"),
        source_step("types", "mypy"),
        source_step("types of the example", "mypy", "examples/double-eleven"),
        source_step("docs", "docs.site"),
    ]


def source_step(name: str, *arguments: str) -> CheckStep:
    """Run one tool beside the tests; its output and result come together, between two lines of the tests."""
    with tempfile.TemporaryFile("w+") as output:
        done = run(name, *arguments, output=output)
        output.seek(0)
        text = output.read()
    say(f"\n=== {name} {'passed' if done.passed else 'FAILED'} in {done.seconds:.1f} s\n{text}".rstrip())
    return done


def run(name: str, module: str, *arguments: str, output: IO[str] | None = None) -> CheckStep:
    """Run one tool of the environment; without `output`, what it writes is passed through."""
    began = time.monotonic()
    try:
        command = [sys.executable, "-m", module, *arguments]
        ended = subprocess.run(command, stdout=output, stderr=output, timeout=STEP_SECONDS_MAX, check=False)
        status = ended.returncode
    except subprocess.TimeoutExpired:
        say(f"{name} was ended after {STEP_SECONDS_MAX} s")
        status = -1
    return CheckStep(name, status == 0, time.monotonic() - began)


def say(line: str) -> None:
    """Write a line at once, before the output of the next step."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
