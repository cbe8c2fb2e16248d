"""The common part of the embedded servers: a child process in a folder, its start, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from stocktide.embedded.process import ChildProcess
from stocktide.errors import EmbeddedError
from stocktide.progress import Echo, WaitReporter
from stocktide.streams.owner_only import FOLDER_OWNER_ONLY

# Kafka starts in 2 s and after a crash checks its segments; Valkey loads some 100 MB of its file a second. CI machines
# are slow.
START_SECONDS_MAX = 120.0
# Between the check of a port and the server's bind another program may take it.
PORT_TRIES_MAX = 3
POLL_SECONDS = 0.05


class EmbeddedServer(ChildProcess):
    """A server as a child process. `product` is its name in messages, `stop_seconds_max` its time to end by itself."""

    def __init__(self, product: str, folder: Path, log: Path, progress: Echo, stop_seconds_max: float) -> None:
        super().__init__(f"the embedded {product}", log, stop_seconds_max)
        self.folder = folder
        self._product = product
        self._progress = progress
        self._port: int | None = None

    @property
    def _known_port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"the embedded {self._product} was not started")
        return self._port

    def _make_folder(self) -> None:
        try:
            # Customers' orders and the secrets of webhooks.
            self.folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_OWNER_ONLY)
        except OSError as error:
            raise EmbeddedError(f"{self._product}'s folder {self.folder} cannot be made: {error.strerror}") from error

    async def _wait_until_answers(self, answers: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until `answers()` holds; False if the process ended. Raises EmbeddedError after START_SECONDS_MAX."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        waiting = WaitReporter(self._progress, self._product)
        while self.running:
            waiting(f"it does not answer yet; the newest line of its log: {self.last_log_line() or 'none'}")
            if await answers():
                return self.running
            if asyncio.get_running_loop().time() > deadline:
                await self.stop()
                raise EmbeddedError(
                    f"{self._product} does not answer after {START_SECONDS_MAX:.0f} s; "
                    f"the end of {self.log}:\n{self.last_log_lines()}"
                )
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _start_failure(self) -> EmbeddedError:
        end_of_log = f"the end of {self.log}:\n{self.last_log_lines()}"
        return EmbeddedError(f"{self._product} ended while it started; {end_of_log}")
