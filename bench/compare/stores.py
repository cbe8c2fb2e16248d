"""PostgreSQL as a store of the contenders, and how it is killed.

In: a log. Out: a server with its usual settings, and the loss after a restart.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil

from bench.valkey import BenchValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.server import EmbeddedServer
from stocktide.errors import CommandError, EmbeddedError
from stocktide.progress import silent

CONNECT_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
# The connections of all clients, and some for the benchmark.
POSTGRES_CONNECTIONS = 100
# Debian does not put the server's programs on the PATH.
_DEBIAN_FOLDERS = "/usr/lib/postgresql"


class ContenderUnavailable(CommandError):
    """A contender cannot run on this machine; the message names what is missing."""


class PostgresStore(EmbeddedServer):
    """A cluster in a temporary folder, run by an unprivileged user, with the server's defaults: `fsync` and
    `synchronous_commit` on."""

    def __init__(self, log: Path) -> None:
        self._programs = find_postgres()
        self._user = _unprivileged_user()
        folder = Path(tempfile.mkdtemp(prefix="stocktide-postgres-"))
        super().__init__("PostgreSQL", folder, log, silent, STOP_SECONDS_MAX)
        self._port = pick_free_port()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"postgresql://bench@127.0.0.1:{self._port}/postgres"

    async def start(self) -> None:
        """Start it, with a new cluster the first time. Raises ContenderUnavailable."""
        if not (self.folder / "data").exists():
            await self._make_cluster()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self.folder),
            "max_connections": str(POSTGRES_CONNECTIONS),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        await self.spawn(self._command("postgres", "-D", str(self.folder / "data"), *options))
        try:
            if not await self._wait_until_answers(self._answers):
                raise self._start_failure()
        except EmbeddedError as error:
            raise ContenderUnavailable(str(error)) from error

    def watch(self) -> None:
        """Nothing: commits are on the disk."""

    async def lose(self) -> str:
        """SIGKILL all of its processes, and restart it; it recovers from its log. Nothing is cut off, because every
        commit was synced before its response."""
        assert self.pid is not None
        server = psutil.Process(self.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self.wait()
        # The next server refuses to start while one of them runs.
        await asyncio.to_thread(psutil.wait_procs, processes, STOP_SECONDS_MAX)
        await self.start()
        return f"kill -9 of all its {len(processes)} processes"

    async def stop(self, seconds_max: float | None = None) -> None:
        """End it, and remove its folder."""
        self.send(signal.SIGINT)  # a "fast" shutdown, which waits for no client
        await super().stop(seconds_max)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _make_cluster(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        making = ChildProcess("initdb", self.log)
        await making.spawn(self._command("initdb", "-D", str(self.folder / "data"), "-U", "bench", "-A", "trust"))
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
            connection = await asyncpg.connect(self.url, timeout=CONNECT_SECONDS_MAX)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


# A server of a contender.
StoreServer = BenchValkey | PostgresStore


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
