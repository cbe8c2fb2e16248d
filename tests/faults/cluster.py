"""The whole system as processes on servers of its own, for faults to be done to.

In: a folder, and how much of everything. Out: brokers, a Redis with a replica, workers and APIs that are kept alive,
each with a line of its own to Redis.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition

from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import ensure_topics, topic_settings
from stocktide.streams.topics import JOURNAL, MOVEMENTS, ORDERS, STOCK
from tests.faults.brokers import Brokers
from tests.faults.proxies import TcpProxies
from tests.faults.redis_server import RedisServer
from tests.faults.system_process import SystemProcess

APP_ID = "faults"
PARTITIONS = 4
# Events that wait for their order are given up soon, so that a run comes to rest.
PARK_SECONDS = 10
# On a machine that everything shares, with servers that were just killed.
READY_SECONDS_MAX = 120.0
# The inputs of agents: what the worker's group commits.
CONSUMED = (ORDERS, MOVEMENTS, JOURNAL, STOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What a cluster is made of. `second_worker` is there from the start, else it joins and leaves as a fault. With
    `disk_mb` the one broker has a disk of its own, of that size, which takes root."""

    brokers: int = 1
    apis: int = 2
    replica: bool = True
    second_worker: bool = False
    disk_mb: int = 0
    park_seconds: int = PARK_SECONDS
    log_level: str = "INFO"
    launcher: Sequence[str] = (sys.executable, "-m", "stocktide")


class Cluster:
    """`start`, `close`. `workers` and `apis` are kept alive; `primary` is the store that all lines point to at first;
    where the roles are exchanged, so are `primary` and `replica`."""

    def __init__(self, folder: Path, shape: ClusterOptions) -> None:
        self.folder = folder
        self.shape = shape
        folder.mkdir(parents=True, exist_ok=True)
        self.brokers = Brokers(folder, shape.brokers)
        self.primary = RedisServer("redis-1", folder)
        self.replica = RedisServer("redis-2", folder) if shape.replica else None
        self._worker_names = ("w1", "w2")
        self._api_names = tuple(f"api-{number + 1}" for number in range(shape.apis))
        self.links = TcpProxies([*self._worker_names, *self._api_names, "replica"], folder / "links.log")
        self.workers: list[SystemProcess] = []
        self.apis: list[SystemProcess] = []
        self._stack = AsyncExitStack()

    @property
    def members(self) -> list[SystemProcess]:
        """All processes of the system itself."""
        return [*self.workers, *self.apis]

    def topic(self, name: str) -> str:
        """A topic's full name."""
        return f"{APP_ID}-{name}"

    async def start(self) -> None:
        """Start everything and wait until it is ready."""
        if self.shape.disk_mb:
            await self._mount(self.brokers.folder(0))
        self._stack.push_async_callback(self.brokers.stop)
        self._stack.push_async_callback(self.primary.stop)
        await asyncio.gather(self.brokers.start(), self.primary.start())
        self._stack.push_async_callback(self.links.stop)
        await self.links.start()
        self.links.point([*self._worker_names, *self._api_names, "replica"], self.primary.port)
        if self.replica is not None:
            self._stack.push_async_callback(self.replica.stop)
            await self.replica.start()
            await self.follow()
        await ensure_topics(self.brokers.address, APP_ID, PARTITIONS)
        self.workers = [self._member(name, "worker") for name in self._worker_names]
        self.apis = [self._member(name, "api") for name in self._api_names]
        started = [*self.workers[: 1 + self.shape.second_worker], *self.apis]
        for member in started:
            self._stack.push_async_callback(member.stop)
            await member.start()
        if not self.shape.second_worker:
            self._stack.push_async_callback(self.workers[1].stop)
        await self.wait_ready()

    async def _mount(self, folder: Path) -> None:
        await asyncio.to_thread(folder.mkdir)
        await _system("mount", "-t", "tmpfs", "-o", f"size={self.shape.disk_mb}m", "stocktide-faults", str(folder))
        self._stack.push_async_callback(_system, "umount", "-l", str(folder))

    async def close(self) -> None:
        """End everything."""
        await self._stack.aclose()

    async def follow(self) -> None:
        """Make the second Redis a replica of the first, over a line of its own."""
        if self.replica is not None:
            self.links.hold("replica", False)
            self.links.point(["replica"], self.primary.port)
            await self.replica.command("REPLICAOF", "127.0.0.1", self.links.port("replica"))

    def point_all(self, port: int | None = None) -> None:
        """All lines to the primary, or to `port`."""
        self.links.point([*self._worker_names, *self._api_names], port or self.primary.port)

    def _member(self, name: str, kind: str) -> SystemProcess:
        environ = {
            "PYTHONUNBUFFERED": "1",
            "STOCKTIDE_APP_ID": APP_ID,
            "STOCKTIDE_KAFKA": self.brokers.address,
            "STOCKTIDE_REDIS": self.links.url(name),
            "STOCKTIDE_DATA": str(self.folder / "data"),
            "STOCKTIDE_PARTITIONS": str(PARTITIONS),
            "STOCKTIDE_PARK_SECONDS": str(self.shape.park_seconds),
            "STOCKTIDE_LOG_LEVEL": self.shape.log_level,
        }
        return SystemProcess(name, kind, self.folder, environ, self.shape.launcher)

    async def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until every member that is kept is ready. Raises ClusterNotReady."""
        kept = [member for member in self.members if member.kept]

        async def all_ready() -> bool:
            return all(await asyncio.gather(*(member.is_ready() for member in kept)))

        if not await poll_until(all_ready, seconds_max):
            words = "\n".join(f"{member.name}:\n{member.last_log_lines()}" for member in kept)
            raise ClusterNotReady(f"not ready after {seconds_max:.0f} s:\n{words}")

    async def uncommitted(self) -> dict[str, int]:
        """By topic, how many records the worker's group has not committed."""
        lags: dict[str, int] = {}
        async with self.brokers.consumer(APP_ID) as consumer:
            for topic in CONSUMED:
                count = topic.partitions or PARTITIONS
                parts = [TopicPartition(topic.full_name(APP_ID), number) for number in range(count)]
                ends = await consumer.end_offsets(parts)
                lags[topic.name] = sum([ends[part] - (await consumer.committed(part) or 0) for part in parts])
        return lags

    async def restore_topics(self, topics: Iterable[str] = (JOURNAL.name,)) -> None:
        """Give topics the settings that we created them with."""
        for topic in (JOURNAL, ORDERS, MOVEMENTS):
            if topic.name in topics:
                await self.brokers.configure(topic.full_name(APP_ID), topic_settings(topic, len(self.brokers)))


async def _system(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


class ClusterNotReady(Exception):
    """The system did not come back; the message is what its parts said last."""
