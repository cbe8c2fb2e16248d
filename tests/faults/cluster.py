"""The whole system as processes on its own servers, for fault injection.

In: a folder, and the size of the system. Out: brokers, a Redis with a replica, workers and APIs under supervision; each
connects to Redis through its own proxy.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from stocktide.errors import CommandError
from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import ensure_topics, topic_settings
from stocktide.streams.topics import JOURNAL
from tests.faults.proxies import TcpProxies
from tests.faults.scenarios import APPROVAL_SECONDS
from tests.faults.servers import CrashableRedis, make_brokers
from tests.faults.system_process import SystemProcess
from tests.harness.process import LAUNCHER

APP_ID = "faults"
PARTITIONS = 4
APIS = 2
# Parked events expire soon, so that a run quiesces.
PARK_SECONDS = 10
# On a shared machine, with servers that were just killed.
READY_SECONDS_MAX = 120.0
# The same, with a rebuild from the journal of a whole run.
REBUILT_SECONDS_MAX = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The parts of a cluster. `second_worker` runs from the start; otherwise it joins and leaves as a fault. `apart`:
    each worker is two processes, one that decides and one that publishes. With `disk_mb` the single broker has its own
    disk of that size, which requires root."""

    brokers: int = 1
    replica: bool = True
    second_worker: bool = False
    apart: bool = False
    disk_mb: int = 0
    park_seconds: int = PARK_SECONDS
    launcher: Sequence[str] = LAUNCHER


class Cluster:
    """The processes under test. `workers` and `apis` are supervised. `primary` is the Redis that all proxies point to
    at first; a failover exchanges `primary` and `replica`. `publishers` are the workers that publish, where these are
    processes of their own; the first and the second belong to the worker of that number."""

    def __init__(self, folder: Path, shape: ClusterOptions) -> None:
        self.folder = folder
        self.shape = shape
        folder.mkdir(parents=True, exist_ok=True)
        self.brokers = make_brokers(folder, shape.brokers)
        self.primary = CrashableRedis("redis-1", folder)
        self.replica = CrashableRedis("redis-2", folder) if shape.replica else None
        self._worker_names = ("w1", "w2")
        self._publisher_names = ("p1", "p2") if shape.apart else ()
        self._api_names = tuple(f"api-{number + 1}" for number in range(APIS))
        self._names = (*self._worker_names, *self._publisher_names, *self._api_names)
        self.proxies = TcpProxies([*self._names, "replica"], folder / "links.log")
        self.workers: list[SystemProcess] = []
        self.publishers: list[SystemProcess] = []
        self.apis: list[SystemProcess] = []
        self._stack = AsyncExitStack()

    @property
    def members(self) -> list[SystemProcess]:
        return [*self.workers, *self.publishers, *self.apis]

    async def start(self) -> None:
        """Start everything, and wait until it is ready."""
        if self.shape.disk_mb:
            await self._mount(self.brokers[0].folder)
        self._stack.push_async_callback(self.brokers.stop)
        self._stack.push_async_callback(self.primary.stop)
        await asyncio.gather(self.brokers.start(), self.primary.start())
        self._stack.push_async_callback(self.proxies.stop)
        await self.proxies.start()
        self.proxies.redirect([*self._names, "replica"], self.primary.port)
        if self.replica is not None:
            self._stack.push_async_callback(self.replica.stop)
            await self.replica.start()
            await self.start_replication()
        await ensure_topics(self.brokers.address, APP_ID, PARTITIONS)
        role = "decide" if self.shape.apart else "all"
        self.workers = [self._member(name, "worker", role) for name in self._worker_names]
        self.publishers = [self._member(name, "worker", "publish") for name in self._publisher_names]
        self.apis = [self._member(name, "api") for name in self._api_names]
        workers = 1 + self.shape.second_worker
        started = [*self.workers[:workers], *self.publishers[:workers], *self.apis]
        for member in started:
            self._stack.push_async_callback(member.stop)
            await member.start()
        if not self.shape.second_worker:
            self._stack.push_async_callback(self.stop_second_worker)
        await self.wait_ready()

    async def start_second_worker(self) -> None:
        """Start the second worker. Does not wait until it is ready."""
        await asyncio.gather(*(process.start() for process in (*self.workers[1:], *self.publishers[1:])))

    async def stop_second_worker(self) -> None:
        """Stop the second worker in order."""
        await asyncio.gather(*(process.stop() for process in (*self.workers[1:], *self.publishers[1:])))

    async def _mount(self, folder: Path) -> None:
        await asyncio.to_thread(folder.mkdir)
        await _run_command("mount", "-t", "tmpfs", "-o", f"size={self.shape.disk_mb}m", "stocktide-faults", str(folder))
        self._stack.push_async_callback(_run_command, "umount", "-l", str(folder))

    async def close(self) -> None:
        await self._stack.aclose()

    async def start_replication(self) -> None:
        """Make the second Redis a replica of the first, through its own proxy."""
        if self.replica is not None:
            self.proxies.freeze("replica", False)
            self.proxies.redirect(["replica"], self.primary.port)
            await self.replica.command("REPLICAOF", "127.0.0.1", self.proxies.port("replica"))

    def redirect_all(self, port: int | None = None) -> None:
        """Redirect all proxies to the primary, or to `port`."""
        self.proxies.redirect(self._names, port or self.primary.port)

    async def heal(self) -> None:
        """Undo what an interrupted fault left behind."""
        for server in filter(None, (*self.brokers, self.primary, self.replica)):
            server.send(signal.SIGCONT)
            with suppress(CommandError):
                if not server.running:
                    await server.start()
        primary = self.primary
        for command in (("CONFIG", "SET", "maxmemory", "0"), ("CLIENT", "UNPAUSE")):
            await primary.command(*command)
        if await primary.role() != "master":
            await primary.command("REPLICAOF", "NO", "ONE")
        self.redirect_all()
        await self.configure_journal()
        for member in self.members:
            member.disarm()
            member.send_signal(signal.SIGCONT)
            if member.extra_environ:
                member.extra_environ = {}
                member.send_signal(signal.SIGTERM)
        if not self.shape.second_worker:
            await self.stop_second_worker()

    def _member(self, name: str, kind: str, role: str = "") -> SystemProcess:
        environ = {
            "PYTHONUNBUFFERED": "1",
            "STOCKTIDE_APP_ID": APP_ID,
            "STOCKTIDE_KAFKA": self.brokers.address,
            "STOCKTIDE_REDIS": self.proxies.url(name),
            "STOCKTIDE_DATA": str(self.folder / "data"),
            "STOCKTIDE_PARTITIONS": str(PARTITIONS),
            "STOCKTIDE_PARK_SECONDS": str(self.shape.park_seconds),
            "STOCKTIDE_APPROVAL_SECONDS": str(APPROVAL_SECONDS),
            "STOCKTIDE_LOG_LEVEL": "INFO",
        }
        if role:
            environ["STOCKTIDE_WORKER_ROLE"] = role
        return SystemProcess(name, kind, self.folder, environ, self.shape.launcher)

    async def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until every supervised member is ready. Raises ClusterNotReady."""
        supervised = [member for member in self.members if member.supervised]

        async def all_ready() -> bool:
            return all(await asyncio.gather(*(member.is_ready() for member in supervised)))

        if not await poll_until(all_ready, seconds_max):
            logs = "\n".join(member.log_tail() for member in supervised)
            raise ClusterNotReady(f"not ready after {seconds_max:.0f} s:\n{logs}")

    async def configure_journal(self, **other: str) -> None:
        """Give the journal the settings that Stocktide creates it with, but for `other`."""
        settings = {**topic_settings(JOURNAL, len(self.brokers)), **other}
        await self.brokers.configure(JOURNAL.full_name(APP_ID), settings)


async def _run_command(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


class ClusterNotReady(Exception):
    """The system did not become ready; the message quotes the logs of its parts."""
