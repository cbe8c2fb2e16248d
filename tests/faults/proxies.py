"""A TCP proxy between each client and its Redis.

In: names of clients, and the port of each one's Redis. Out: a port for each client, which forwards. `redirect` acts
like a change of DNS; `freeze` leaves connections open but forwards nothing. The forwarding runs in its own process, so
that a busy test does not slow the system down.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess

CHUNK_BYTES = 64 * 1024
START_SECONDS_MAX = 20.0


class TcpProxies:
    """The ports, and the process that forwards them. `url(name)` is the Redis of client `name`."""

    def __init__(self, names: Iterable[str], log: Path) -> None:
        self._proxies: dict[str, dict[str, int | None]] = {}
        for name in names:
            port = pick_free_port(avoid=[self.port(other) for other in self._proxies])
            self._proxies[name] = {"port": port, "target": None, "held": False}
        self._targets_file = log.with_suffix(".json")
        self._child = ChildProcess("the links", log)

    def url(self, name: str) -> str:
        """`redis://HOST:PORT/0` for the client."""
        return f"redis://127.0.0.1:{self.port(name)}/0"

    def port(self, name: str) -> int:
        return self._proxies[name]["port"] or 0

    async def start(self) -> None:
        """Start forwarding; no proxy has a target yet."""
        self._write()
        await self._child.spawn([sys.executable, "-m", "tests.faults.proxies", str(self._targets_file)], os.environ)
        async with asyncio.timeout(START_SECONDS_MAX):
            for name in self._proxies:
                await _wait_until_listening(self.port(name))

    async def stop(self) -> None:
        await self._child.stop(1.0)

    def redirect(self, names: Iterable[str], port: int | None) -> None:
        """Send new connections of these clients to `port`, and end the existing ones; None: refuse."""
        for name in names:
            self._proxies[name]["target"] = port
        self._write()

    def freeze(self, name: str, frozen: bool = True) -> None:
        """Forward nothing in either direction, without closing connections; False: resume."""
        self._proxies[name]["held"] = frozen
        self._write()

    def _write(self) -> None:
        new_file = self._targets_file.with_suffix(".new")
        new_file.write_text(json.dumps(self._proxies))
        new_file.replace(self._targets_file)


async def _wait_until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return writer.close()


@dataclass
class _TcpProxy:
    """One forwarded port, inside the process."""

    target: int | None = None
    open_gate: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def apply(self, target: int | None, frozen: bool) -> None:
        (self.open_gate.clear if frozen else self.open_gate.set)()
        if target != self.target:
            self.target = target
            for writer in self.writers:
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if self.target is not None:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
                writers.append(server_writer)
                self.writers.update(writers)
                await asyncio.gather(self._copy(reader, server_writer), self._copy(server_reader, writer))
        except (OSError, RuntimeError):  # uvloop raises RuntimeError for an aborted connection
            pass
        finally:
            self.writers.difference_update(writers)
            for each in writers:
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self.open_gate.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


async def _forward(targets: Path) -> None:
    proxies: dict[str, _TcpProxy] = {}
    settings: Mapping[str, dict[str, int | None]] = {}
    stamp = 0
    while True:
        if (changed := targets.stat().st_mtime_ns) != stamp:  # noqa: ASYNC240  a small file
            stamp = changed
            settings = json.loads(targets.read_text())  # noqa: ASYNC240
        for name, entry in settings.items():
            if name not in proxies:
                proxies[name] = _TcpProxy()
                await asyncio.start_server(proxies[name].serve, "127.0.0.1", entry["port"])
            proxies[name].apply(entry["target"], bool(entry["held"]))
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_forward(Path(sys.argv[1])))
