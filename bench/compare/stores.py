"""The stores of the contenders, and how they are killed: Valkey and PostgreSQL.

In: a folder. Out: a server with its usual settings, and the loss after a restart.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import asyncpg
import psutil
from redis.asyncio import Redis

from bench.size.outage import AppendOnlyFile
from stocktide.embedded import EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.errors import CommandError

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.02
# The connections of all clients, and some for the benchmark.
POSTGRES_CONNECTIONS = 100
# Debian does not put the server's programs on the PATH.
_DEBIAN_FOLDERS = "/usr/lib/postgresql"


class ContenderUnavailable(CommandError):
    """A contender cannot run on this machine; the message names what is missing."""


class StoreServer(Protocol):
    """A server of a contender."""

    @property
    def url(self) -> str:
        """The URL for clients; valid after the start."""

    async def start(self) -> None:
        """Start it, and wait until it answers."""

    def watch(self) -> None:
        """Prepare `lose`: called some seconds before it."""

    async def lose(self) -> str:
        """Kill it with the loss that such a kill may cause, and restart it; a description."""

    async def stop(self) -> None:
        """End it."""


class ValkeyStore:
    """An embedded Valkey. AOF `everysec`, as Stocktide's: its last seconds of writes may be lost. `always`: it syncs
    before it answers, and nothing may be lost."""

    def __init__(self, server: EmbeddedValkey, always: bool = False) -> None:
        self._server = server
        self._always = always
        self._file = AppendOnlyFile(server.folder)
        self._watching: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return self._server.url

    async def start(self) -> None:
        """Start it with its present data."""
        await self._server.start()
        if self._always:
            async with Redis.from_url(self.url) as redis:
                await redis.config_set("appendfsync", "always")

    def watch(self) -> None:
        """Record the growth of its file from now on."""
        self._watching = asyncio.create_task(self._file.watch())

    async def lose(self) -> str:
        """SIGKILL; unless `always`, cut off the last seconds of the file; restart."""
        killed_at = time.monotonic()
        self._server.kill()
        await self._server.wait()
        self._stop_watching()
        if self._always:
            await self.start()
            return "kill -9"
        lost, seconds = self._file.cut(killed_at)
        await self.start()
        return f"kill -9, {lost:,} bytes ({seconds:.1f} s) of its file lost"

    async def stop(self) -> None:
        """End it."""
        self._stop_watching()
        await self._server.stop()

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None


class PostgresStore:
    """A cluster in a temporary folder, run by an unprivileged user, with the server's defaults: `fsync` and
    `synchronous_commit` on."""

    def __init__(self, log: Path) -> None:
        self._programs = find_postgres()
        self._user = _unprivileged_user()
        self._folder = Path(tempfile.mkdtemp(prefix="stocktide-postgres-"))
        self._port = pick_free_port()
        self._child = ChildProcess("PostgreSQL", log)

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"postgresql://bench@127.0.0.1:{self._port}/postgres"

    async def start(self) -> None:
        """Start it, with a new cluster the first time. Raises ContenderUnavailable."""
        if not (self._folder / "data").exists():
            await self._make_cluster()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self._folder),
            "max_connections": str(POSTGRES_CONNECTIONS),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        await self._child.spawn(self._command("postgres", "-D", str(self._folder / "data"), *options))
        deadline = time.monotonic() + START_SECONDS_MAX
        while not await self._answers():
            if not self._child.running or time.monotonic() > deadline:
                raise ContenderUnavailable(
                    f"PostgreSQL does not start; the end of its log:\n{self._child.last_log_lines()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    def watch(self) -> None:
        """Nothing: commits are on the disk."""

    async def lose(self) -> str:
        """SIGKILL all of its processes, and restart it; it recovers from its log. Nothing is cut off, because every
        commit was synced before its response."""
        assert self._child.pid is not None
        server = psutil.Process(self._child.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self._child.wait()
        # The next server refuses to start while one of them runs.
        await asyncio.to_thread(psutil.wait_procs, processes, STOP_SECONDS_MAX)
        await self.start()
        return f"kill -9 of all its {len(processes)} processes"

    async def stop(self) -> None:
        """End it, and remove its folder."""
        self._child.send(signal.SIGINT)  # a "fast" shutdown, which waits for no client
        await self._child.stop(STOP_SECONDS_MAX)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _make_cluster(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        making = ChildProcess("initdb", self._child.log)
        await making.spawn(self._command("initdb", "-D", str(self._folder / "data"), "-U", "bench", "-A", "trust"))
        if await making.wait() != 0:
            raise ContenderUnavailable(f"initdb fails; the end of its log:\n{making.last_log_lines()}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if self._user is None:
            return command
        # A change of the user resets the parent-death signal.
        drop = ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups", "--pdeathsig=KILL"]
        return [*drop, "--", *command]

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=START_SECONDS_MAX)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


def find_postgres() -> Path:
    """The folder of the server's programs. Raises ContenderUnavailable."""
    newest_first = sorted(Path(_DEBIAN_FOLDERS).glob("*/bin/initdb"), key=lambda path: -float(path.parts[-3]))
    on_path = shutil.which("initdb")
    for found in [*newest_first, *([Path(on_path).resolve()] if on_path else [])]:
        if (found.parent / "postgres").exists():
            return found.parent
    raise ContenderUnavailable("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")


def _unprivileged_user() -> str | None:
    """The user for PostgreSQL, which refuses root; None: the present user. Raises ContenderUnavailable."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names and shutil.which("setpriv"):
            return name
    raise ContenderUnavailable("PostgreSQL does not run as root, and there is no other user (or no setpriv) to run it")
