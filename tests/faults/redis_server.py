"""The Redis under test: a server that can be killed like in a power failure, with the tail of its file lost.

In: a folder. Out: a server on a fixed port; `lose_tail` truncates its append-only file by writes of the last seconds
only.
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

# `everysec` loses about this much, and no more.
TAIL_SECONDS_MAX = 2.0
SAMPLE_SECONDS = 0.05
COMMAND_SECONDS_MAX = 5.0


class CrashableRedis:
    """A Valkey server. While it runs, the size of its append-only file is sampled, to convert seconds into bytes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._server = EmbeddedValkey(folder / name, folder / f"{name}.log")
        self._folder = folder / name
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS_MAX / SAMPLE_SECONDS))
        self._sampling: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Its port, which survives a restart."""
        return int(self._server.url.rpartition(":")[2].partition("/")[0])

    @property
    def running(self) -> bool:
        return self._server.running

    async def role(self) -> str:
        """`master` or `slave`; empty if it does not answer."""
        reply = await self.command("ROLE")
        return reply[0].decode() if reply else ""

    async def start(self) -> None:
        """Start it with its data, and wait until it answers."""
        await self._server.start()
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample_sizes())

    async def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
        self.send(signal.SIGCONT)
        await self._server.stop()

    def send(self, number: signal.Signals) -> None:
        self._server.send(number)

    async def kill(self) -> None:
        self._server.kill()
        await self._server.wait()

    async def lose_tail(self, seconds: float, rng: random.Random) -> int:
        """Kill it, and truncate its file at a random byte of the last `seconds`. Returns the number of bytes lost;
        `start` restarts it."""
        await self.kill()
        newest = self._newest_file()
        size = newest.stat().st_size
        since = time.monotonic() - min(seconds, TAIL_SECONDS_MAX)
        older = [at_size for at, file, at_size in self._sizes if file == newest and at <= since]
        size_min = older[-1] if older else next((at_size for _, file, at_size in self._sizes if file == newest), size)
        cut = rng.randint(min(size_min, size), size)
        os.truncate(newest, cut)
        self._sizes.clear()
        return size - cut

    @asynccontextmanager
    async def client(self) -> AsyncIterator[redis.asyncio.Redis]:
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

    async def command(self, *arguments: Any) -> Any:
        """The reply to a command; None if it does not answer."""
        async with self.client() as client:
            with suppress(RedisError, OSError):
                return await client.execute_command(*arguments)
        return None

    async def replication_offset(self) -> int:
        async with self.client() as client:
            about = await client.info("replication")
        return int(about.get("slave_repl_offset", about["master_repl_offset"]))

    def _newest_file(self) -> Path:
        """The file being appended to: `appendonly.aof.<n>.incr.aof` with the highest number."""
        files = (self._folder / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    async def _sample_sizes(self) -> None:
        while True:
            with suppress(OSError, ValueError):
                newest = self._newest_file()
                self._sizes.append((time.monotonic(), newest, newest.stat().st_size))
            await asyncio.sleep(SAMPLE_SECONDS)
