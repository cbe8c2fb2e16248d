"""A plain Faust agent as a contender: stock in Redis, orders in its table, requests and responses through Kafka."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
from aiokafka.admin import NewTopic

from bench.compare.clients import kafka_clients
from bench.compare.load import BenchOrder, ReserveClient, ReserveOutcome
from bench.compare.stores import ValkeyStore
from bench.compare.strategies import HELD, OneLuaCall
from bench.orders import read_all
from bench.servers import BenchServers, run_servers
from stocktide.embedded.process import ChildProcess
from stocktide.streams.kafka.admin import admin_client

NAME = "plain"
PARTITIONS = 4
_REQUESTS, _RESPONSES, _CHANGELOG = f"{NAME}-requests", f"{NAME}-answers", f"{NAME}-orders-changelog"
STOP_SECONDS_MAX = 15.0
# The first join of its group and the recovery of its tables.
READY_SECONDS_MAX = 120.0
PROBE_SKU = "PROBE"


class FaustContender:
    """One worker with the agent."""

    def __init__(self, servers: BenchServers) -> None:
        self._kafka = servers.kafka.address
        store = ValkeyStore(servers.valkey)
        self.watch_store, self.lose_store = store.watch, store.lose
        # Keeps the units under the keys that the agent uses.
        self._stock = OneLuaCall(servers.valkey.url)
        self.open, self.left = self._stock.open, self._stock.left
        self._agent = ChildProcess("the plain Faust agent", servers.folder / "agent.log")
        self._environ = {
            **os.environ,
            "BENCH_KAFKA": self._kafka,
            "BENCH_REDIS": servers.valkey.url,
            "BENCH_APP": NAME,
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_DATA": str(servers.folder / "agent"),
        }

    async def start(self) -> None:
        """Create the topics, start the agent, and wait until it responds."""
        async with admin_client(self._kafka) as admin:
            await admin.create_topics([NewTopic(_REQUESTS, PARTITIONS, 1), NewTopic(_RESPONSES, 1, 1)])
        await self._stock.open({PROBE_SKU: 1})
        await self._spawn()
        async with self.clients(1) as clients, asyncio.timeout(READY_SECONDS_MAX):
            while await clients[0].reserve(BenchOrder("probe", PROBE_SKU, 1)) is ReserveOutcome.NONE:
                if not self._agent.running:
                    raise RuntimeError(f"the plain Faust agent ended:\n{self._agent.last_log_lines()}")

    async def stop(self) -> None:
        """End the agent."""
        await self._agent.stop(STOP_SECONDS_MAX)
        await self._stock.close()

    def clients(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """`count` clients, which share one connection."""
        return kafka_clients(self._kafka, _REQUESTS, _RESPONSES, count)

    async def kill(self) -> str:
        """SIGKILL the worker and restart it."""
        self._agent.kill()
        await self._agent.wait()
        await self._spawn()
        return "kill -9 of its worker"

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """From the changelog of its table, the newest state of each."""
        states: dict[str, str] = {}
        async for record in read_all(self._kafka, _CHANGELOG):
            states[orjson.loads(record.key)] = orjson.loads(record.value)
        return {order_id for order_id in order_ids if states.get(order_id) == HELD}

    async def _spawn(self) -> None:
        command = [sys.executable, "-m", "bench.compare.plain_agent", "worker", "--without-web"]
        await self._agent.spawn(command, self._environ)


@asynccontextmanager
async def run_plain_faust(folder: Path) -> AsyncIterator[FaustContender]:
    """The contender and its servers, for the duration."""
    async with run_servers(folder) as servers:
        contender = FaustContender(servers)
        try:
            await contender.start()
            yield contender
        finally:
            await contender.stop()
