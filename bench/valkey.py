"""An embedded Valkey that can be killed with the loss of its newest writes.

In: a folder. Out: a server with AOF `everysec`, as Stocktide's: a kill may lose the writes of its last seconds. With
`always` it syncs before it answers, and nothing may be lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from pathlib import Path

from redis.asyncio import Redis

from stocktide.embedded import EmbeddedValkey

# The loss of `everysec` (design, section 9).
TAIL_SECONDS = 2.0
WATCH_SECONDS = 0.02


class AppendOnlyFile:
    """Records the growth of the file, so that a cut loses the writes of some seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "appendonlydir"
        # Longer than the tail.
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS / WATCH_SECONDS))

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            path = self._newest()
            self._sizes.append((time.monotonic(), path, path.stat().st_size))
            await asyncio.sleep(WATCH_SECONDS)

    def cut(self, killed_at: float) -> tuple[int, float]:
        """Cut off the writes of the last seconds before `killed_at`; their bytes and seconds."""
        path = self._newest()
        known = [(at, size) for at, its_path, size in self._sizes if its_path == path]
        # The oldest size within the tail: no older byte is lost.
        sizes = ((at, size) for at, size in known if at >= killed_at - TAIL_SECONDS)
        at, size = next(sizes, (killed_at, path.stat().st_size))
        lost = path.stat().st_size - size
        os.truncate(path, size)
        return lost, killed_at - at

    def _newest(self) -> Path:
        manifest = next(self._folder.glob("*.manifest")).read_text().splitlines()
        names = [line.split()[1] for line in manifest if line.endswith(" type i")]
        return self._folder / names[-1]


class BenchValkey(EmbeddedValkey):
    """A Valkey whose file is watched before it is killed."""

    def __init__(self, folder: Path, log: Path, always: bool = False) -> None:
        super().__init__(folder, log)
        self._always = always
        self._file = AppendOnlyFile(folder)
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Record the growth of its file from now on: called some seconds before `end_by_kill`."""
        self._watching = asyncio.create_task(self._file.watch())

    async def start(self) -> None:
        """Start it with its present data."""
        await super().start()
        if self._always:
            async with Redis.from_url(self.url) as redis:
                await redis.config_set("appendfsync", "always")

    async def end_by_kill(self) -> tuple[int, float]:
        """SIGKILL; unless `always`, cut off the last seconds of its file. The bytes and seconds that are lost."""
        killed_at = time.monotonic()
        self.kill()
        await self.wait()
        self._stop_watching()
        return (0, 0.0) if self._always else self._file.cut(killed_at)

    async def lose(self) -> str:
        """`end_by_kill`, then restart it; a description."""
        lost, seconds = await self.end_by_kill()
        await self.start()
        return "kill -9" if self._always else f"kill -9, {lost:,} bytes ({seconds:.1f} s) of its file lost"

    async def stop(self, seconds_max: float | None = None) -> None:
        """End it."""
        self._stop_watching()
        await super().stop(seconds_max)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
