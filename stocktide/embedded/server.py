"""What the embedded servers have in common: a child process with a log, and its end."""

from __future__ import annotations

from stocktide.embedded.process import ChildProcess


class EmbeddedServer:
    """A server as our child; `stop_seconds` is how long it has to end by itself."""

    def __init__(self, child: ChildProcess, stop_seconds: float) -> None:
        self._child = child
        self._stop_seconds = stop_seconds

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._child.pid

    async def stop(self) -> None:
        """Stop it: SIGTERM, then SIGKILL after `stop_seconds`."""
        await self._child.stop(self._stop_seconds)

    async def wait(self) -> int:
        """Wait for its end; the exit status, or minus the signal."""
        return await self._child.wait()

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def last_log_lines(self) -> str:
        """The last lines of its log."""
        return self._child.last_log_lines()
