"""The contenders: Stocktide and the usual ways, each with servers and processes of its own that can be killed.

In: a name and a folder. Out: clients, stock, kills, and the state of the store afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.compare.clients import http_clients
from bench.compare.faust_contender import run_plain_faust
from bench.compare.load import ReserveClient
from bench.compare.stocktide_contender import run_stocktide_contender
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

    def clients(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """`count` clients."""

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive these units of each SKU."""

    async def kill(self) -> str:
        """SIGKILL its own processes and restart them; a description."""

    def watch_store(self) -> None:
        """Prepare `lose_store`: called some seconds before it."""

    async def lose_store(self) -> str:
        """Kill its store with the loss that such a kill may cause, and restart it; a description."""

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """Those of the orders that are held in the store."""

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """The remaining units of each SKU."""


class ServiceContender:
    """A strategy in the common HTTP service, a process of its own, and its store."""

    def __init__(self, name: str, store: StoreServer, log: Path) -> None:
        self._name = name
        self._store = store
        self._strategy = STRATEGIES[name](store.url)
        self.open, self.held, self.left = self._strategy.open, self._strategy.held, self._strategy.left
        self.watch_store, self.lose_store = store.watch, store.lose
        self._port = pick_free_port()
        self._service = ChildProcess(f"the service of {name}", log)

    async def start(self) -> None:
        """Start the service, and wait until it listens."""
        command = [sys.executable, "-m", "bench.compare.service", self._name, str(self._port), self._store.url]
        await self._service.spawn(command)
        if not await poll_until(self._listens_or_ended, READY_SECONDS_MAX) or not self._service.running:
            raise RuntimeError(f"the service of {self._name} does not listen:\n{self._service.last_log_lines()}")

    async def stop(self) -> None:
        """End the service."""
        await self._service.stop(STOP_SECONDS_MAX)
        await self._strategy.close()

    def clients(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """`count` clients with a connection each."""
        return http_clients(self._port, count)

    async def kill(self) -> str:
        """SIGKILL the service and restart it."""
        self._service.kill()
        await self._service.wait()
        await self.start()
        return "kill -9 of its process"

    async def _listens_or_ended(self) -> bool:
        return not is_port_free(self._port) or not self._service.running


@asynccontextmanager
async def _run_service(name: str, store: StoreServer, folder: Path) -> AsyncIterator[Contender]:
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
        return _run_service(name, store, folder)

    return opened


def _on_postgres(folder: Path) -> AbstractAsyncContextManager[Contender]:
    return _run_service("row-lock", PostgresStore(folder / "postgres.log"), folder)


@dataclass(frozen=True, slots=True)
class ContenderEntry:
    """A line of the table: the contender, and how its store is killed."""

    title: str
    store_death: str
    opened: Callable[[Path], AbstractAsyncContextManager[Contender]]


_TAIL = f"Redis without its last {TAIL_SECONDS:.0f} s"
CONTENDERS: Mapping[str, ContenderEntry] = {
    "stocktide": ContenderEntry("Stocktide, by HTTP", _TAIL, run_stocktide_contender),
    "faust": ContenderEntry("a plain Faust agent, by Kafka", _TAIL, run_plain_faust),
    "lock": ContenderEntry("redis-py Lock, AOF everysec", _TAIL, _on_valkey("lock")),
    "lua": ContenderEntry("one Lua call, no log, AOF everysec", _TAIL, _on_valkey("lua")),
    "lua-always": ContenderEntry("one Lua call, no log, AOF always", "kill -9", _on_valkey("lua", always=True)),
    "row-lock": ContenderEntry("PostgreSQL, SELECT … FOR UPDATE", "kill -9, crash recovery", _on_postgres),
}
