"""The contenders: Stocktide and the usual ways, each with its servers and processes of its own that may be killed.

In: a name and a folder. Out, for the rounds: callers, stock, kills, and what the store says afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.compare.clients import http_clients
from bench.compare.faust_contender import plain_faust
from bench.compare.load import ReserveClient
from bench.compare.stocktide_contender import stocktide
from bench.compare.stores import PostgresStore, StoreServer, ValkeyStore
from bench.compare.strategies import STRATEGIES
from bench.size.outage import TAIL_SECONDS
from stocktide.embedded import EmbeddedValkey
from stocktide.embedded.ports import is_port_free, pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.retry import poll_until

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0


class Contender(Protocol):
    """One way to reserve stock, running."""

    def callers(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """So many callers at its door."""

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive so many units of each SKU."""

    async def kill(self) -> str:
        """SIGKILL of its own processes; started again at once. What was done."""

    def watch_store(self) -> None:
        """Get ready for `lose_store`: called some seconds before it."""

    async def lose_store(self) -> str:
        """Kill its store, with what such a death may cost; start it again. What was done."""

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """Those of the orders that the store has as held."""

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """The units that are left of each SKU."""


class ServiceContender:
    """A way behind the common door, in a process of its own, and its store."""

    def __init__(self, name: str, store: StoreServer, log: Path) -> None:
        self._name = name
        self._store = store
        self._way = STRATEGIES[name](store.url)
        self._port = pick_free_port()
        self._door = ChildProcess(f"the door of {name}", log)

    async def start(self) -> None:
        """Start the door, and wait until it serves."""
        command = [sys.executable, "-m", "bench.compare.service", self._name, str(self._port), self._store.url]
        await self._door.spawn(command)
        if not await poll_until(self._listens_or_ended, READY_SECONDS_MAX) or not self._door.running:
            raise RuntimeError(f"the door of {self._name} does not serve:\n{self._door.last_log_lines()}")

    async def stop(self) -> None:
        """End the door."""
        await self._door.stop(STOP_SECONDS_MAX)
        await self._way.close()

    def callers(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """A connection each."""
        return http_clients(self._port, count)

    async def open(self, stock: Mapping[str, int]) -> None:
        """Straight into the store."""
        await self._way.open(stock)

    async def kill(self) -> str:
        """Of the door."""
        self._door.kill()
        await self._door.wait()
        await self.start()
        return "kill -9 of its process"

    def watch_store(self) -> None:
        """As the store needs it."""
        self._store.watch()

    async def lose_store(self) -> str:
        """As the store dies."""
        return await self._store.lose()

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """Straight from the store."""
        return await self._way.held(order_ids)

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """Straight from the store."""
        return await self._way.left(skus)

    async def _listens_or_ended(self) -> bool:
        return not is_port_free(self._port) or not self._door.running


@asynccontextmanager
async def _behind_door(name: str, store: StoreServer, folder: Path) -> AsyncIterator[Contender]:
    try:
        await store.start()
        contender = ServiceContender(name, store, folder / f"{name}.log")
        try:
            await contender.start()
            yield contender
        finally:
            await contender.stop()
    finally:
        await store.stop()


def _on_valkey(name: str, always: bool = False) -> Callable[[Path], AbstractAsyncContextManager[Contender]]:
    def opened(folder: Path) -> AbstractAsyncContextManager[Contender]:
        store = ValkeyStore(EmbeddedValkey(folder / "valkey", folder / "valkey.log"), always)
        return _behind_door(name, store, folder)

    return opened


def _on_postgres(folder: Path) -> AbstractAsyncContextManager[Contender]:
    return _behind_door("row-lock", PostgresStore(folder / "postgres.log"), folder)


@dataclass(frozen=True, slots=True)
class ContenderEntry:
    """A line of the table: who it is, and what its death is."""

    title: str
    store_death: str
    opened: Callable[[Path], AbstractAsyncContextManager[Contender]]


_TAIL = f"Redis without its last {TAIL_SECONDS:.0f} s"
CONTENDERS: Mapping[str, ContenderEntry] = {
    "stocktide": ContenderEntry("Stocktide, by HTTP", _TAIL, stocktide),
    "faust": ContenderEntry("a plain Faust agent, by Kafka", _TAIL, plain_faust),
    "lock": ContenderEntry("redis-py Lock, AOF everysec", _TAIL, _on_valkey("lock")),
    "lua": ContenderEntry("one Lua call, no log, AOF everysec", _TAIL, _on_valkey("lua")),
    "lua-always": ContenderEntry("one Lua call, no log, AOF always", "kill -9", _on_valkey("lua", always=True)),
    "row-lock": ContenderEntry("PostgreSQL, SELECT … FOR UPDATE", "kill -9, crash recovery", _on_postgres),
}
