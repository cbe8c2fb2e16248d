"""The Redis under test: a server that can be killed as a power cut kills it, with the end of its file gone.

In: a folder. Out: a server on a port that stays; `lose_tail` takes from its append-only file what was written in the
last seconds, and no more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from stocktide.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The design assumes that `everysec` loses about this much, and no more.
TAIL_SECONDS_MAX = 2.0
SAMPLE_SECONDS = 0.05
COMMAND_SECONDS_MAX = 5.0


class RedisServer:
    """One Valkey. While it is watched, the size of its append-only file is noted, so that seconds become bytes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._server = EmbeddedValkey(folder / name, folder / f"{name}.log")
        self._folder = folder / name
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS_MAX / SAMPLE_SECONDS))
        self._watching: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens; the same after a restart."""
        return int(self._server.url.rpartition(":")[2].partition("/")[0])

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._server._child.running

    async def role(self) -> str:
        """`master` or `slave`; empty where it does not answer."""
        said = await self.command("ROLE")
        return said[0].decode() if said else ""

    async def start(self) -> None:
        """Start it with the data that it has, and wait until it answers."""
        await self._server.start()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End it for good."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self.send(signal.SIGCONT)
        await self._server.stop()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self._server.kill()
        await self._server.wait()

    async def lose_tail(self, seconds: float, rng: random.Random) -> int:
        """Kill it, and cut its file at a random byte of what it wrote in the last `seconds`. How many bytes are gone.
        `start` brings it back."""
        await self.kill()
        newest = self._newest_file()
        size = newest.stat().st_size
        since = time.monotonic() - min(seconds, TAIL_SECONDS_MAX)
        older = [at_size for at, file, at_size in self._sizes if file == newest and at <= since]
        least = older[-1] if older else next((at_size for _, file, at_size in self._sizes if file == newest), size)
        cut = rng.randint(min(least, size), size)
        os.truncate(newest, cut)
        self._sizes.clear()
        return size - cut

    @asynccontextmanager
    async def client(self) -> AsyncIterator[redis.asyncio.Redis]:
        """A client for an operator's commands."""
        client = redis.asyncio.Redis.from_url(
            self._server.url,
            socket_timeout=COMMAND_SECONDS_MAX,
            socket_connect_timeout=COMMAND_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def command(self, *words: Any) -> Any:
        """Have it do one thing; None where it does not answer."""
        async with self.client() as client:
            with suppress(RedisError, OSError):
                return await client.execute_command(*words)
        return None

    async def offset(self) -> int:
        """How far it has replicated, or been replicated."""
        async with self.client() as client:
            about = await client.info("replication")
        return int(about.get("slave_repl_offset", about["master_repl_offset"]))

    def _newest_file(self) -> Path:
        """The file that is being appended to: `appendonly.aof.<n>.incr.aof` with the highest number."""
        files = (self._folder / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    async def _watch(self) -> None:
        while True:
            with suppress(OSError, ValueError):
                newest = self._newest_file()
                self._sizes.append((time.monotonic(), newest, newest.stat().st_size))
            await asyncio.sleep(SAMPLE_SECONDS)
