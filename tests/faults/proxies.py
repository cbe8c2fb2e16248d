"""What stands between a client and its Redis: a port of its own for each client, that can be pointed elsewhere.

In: names of clients, and where each one's Redis is. Out: a port for each, which forwards; `point` is what a change of
DNS is in life, `hold` a line that is up and carries nothing. The forwarding is done in a process of its own, so that a
tester that is busy does not slow the system down.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess

# One read of a socket.
CHUNK_BYTES = 64 * 1024
START_SECONDS_MAX = 20.0


class TcpProxies:
    """The ports, and the process behind them. `url(name)` is the Redis of client `name`."""

    def __init__(self, names: Iterable[str], log: Path) -> None:
        self._ports: dict[str, int] = {}
        for name in names:
            self._ports[name] = pick_free_port(avoid=list(self._ports.values()))
        self._targets: dict[str, int | None] = dict.fromkeys(self._ports)
        self._held: set[str] = set()
        self._orders = log.with_suffix(".json")
        self._child = ChildProcess("the links", log)

    def url(self, name: str) -> str:
        """`redis://HOST:PORT/0` for that client."""
        return f"redis://127.0.0.1:{self._ports[name]}/0"

    def port(self, name: str) -> int:
        """The port of that client."""
        return self._ports[name]

    async def start(self) -> None:
        """Start forwarding; nothing is pointed anywhere yet."""
        self._write()
        await self._child.spawn([sys.executable, "-m", "tests.faults.proxies", str(self._orders)])
        async with asyncio.timeout(START_SECONDS_MAX):
            for port in self._ports.values():
                await _listens(port)

    async def stop(self) -> None:
        """End it."""
        await self._child.stop(1.0)

    def point(self, names: Iterable[str], port: int | None) -> None:
        """Let new connections of these clients go to `port`, and end those that are there; None: refuse."""
        self._targets.update(dict.fromkeys(names, port))
        self._write()

    def hold(self, name: str, held: bool = True) -> None:
        """Carry nothing on this line, in either direction, without closing it; False: carry on."""
        (self._held.add if held else self._held.discard)(name)
        self._write()

    def _write(self) -> None:
        orders = {
            name: {"port": port, "target": self._targets[name], "held": name in self._held}
            for name, port in self._ports.items()
        }
        fresh = self._orders.with_suffix(".new")
        fresh.write_text(json.dumps(orders))
        fresh.replace(self._orders)


async def _listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return writer.close()


@dataclass
class _Link:
    """One forwarded port, inside the process."""

    target: int | None = None
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def order(self, target: int | None, held: bool) -> None:
        (self.flows.clear if held else self.flows.set)()
        if target != self.target:
            self.target = target
            for writer in self.writers:
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if self.target is not None:
                their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.target)
                writers.append(their_writer)
                self.writers.update(writers)
                await asyncio.gather(self._carry(reader, their_writer), self._carry(their_reader, writer))
        except (OSError, RuntimeError):  # the latter is uvloop's word for a connection that was cut
            pass
        finally:
            self.writers.difference_update(writers)
            for each in writers:
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self.flows.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


async def _forward(orders: Path) -> None:
    links: dict[str, _Link] = {}
    seen: Mapping[str, dict[str, int | None]] = {}
    stamp = 0
    while True:
        if (changed := orders.stat().st_mtime_ns) != stamp:  # noqa: ASYNC240  a look at a file of one page
            stamp = changed
            seen = json.loads(orders.read_text())  # noqa: ASYNC240
        for name, order in seen.items():
            if name not in links:
                links[name] = _Link()
                await asyncio.start_server(links[name].serve, "127.0.0.1", order["port"])
            links[name].order(order["target"], bool(order["held"]))
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_forward(Path(sys.argv[1])))
