"""A plain Faust agent as a contender: stock in Redis, orders in its table, asked and answered by Kafka."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic

from bench.compare.clients import kafka_clients
from bench.compare.load import BenchOrder, ReserveClient, ReserveOutcome
from bench.compare.stores import ValkeyStore
from bench.compare.strategies import HELD, OneLuaCall
from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.process import ChildProcess
from stocktide.streams.kafka.admin import admin_client

NAME = "plain"
PARTITIONS = 4
_REQUESTS, _ANSWERS, _CHANGELOG = f"{NAME}-requests", f"{NAME}-answers", f"{NAME}-orders-changelog"
STOP_SECONDS_MAX = 15.0
# Its first join, tables and all.
READY_SECONDS_MAX = 120.0
PROBE_SKU = "PROBE"


class FaustContender:
    """One worker with the agent."""

    def __init__(self, kafka: EmbeddedKafka, valkey: EmbeddedValkey, folder: Path) -> None:
        self._kafka = kafka.address
        self._store = ValkeyStore(valkey)
        self._stock = OneLuaCall(valkey.url)  # keeps the units where the agent looks for them
        self._agent = ChildProcess("the plain Faust agent", folder / "agent.log")
        self._environ = {
            **os.environ,
            "BENCH_KAFKA": self._kafka,
            "BENCH_REDIS": valkey.url,
            "BENCH_APP": NAME,
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_DATA": str(folder / "agent"),
        }

    async def start(self) -> None:
        """Make the topics, start the agent, and wait until it answers."""
        async with admin_client(self._kafka) as admin:
            await admin.create_topics([NewTopic(_REQUESTS, PARTITIONS, 1), NewTopic(_ANSWERS, 1, 1)])
        await self._stock.open({PROBE_SKU: 1})
        await self._spawn()
        async with self.callers(1) as callers, asyncio.timeout(READY_SECONDS_MAX):
            while await callers[0].reserve(BenchOrder("probe", PROBE_SKU, 1)) is ReserveOutcome.NONE:
                if not self._agent.running:
                    raise RuntimeError(f"the plain Faust agent ended:\n{self._agent.last_log_lines()}")

    async def stop(self) -> None:
        """End the agent."""
        await self._agent.stop(STOP_SECONDS_MAX)
        await self._stock.close()

    def callers(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """On one client of Kafka."""
        return kafka_clients(self._kafka, _REQUESTS, _ANSWERS, count)

    async def open(self, stock: Mapping[str, int]) -> None:
        """Straight into Redis."""
        await self._stock.open(stock)

    async def kill(self) -> str:
        """Of the agent's worker."""
        self._agent.kill()
        await self._agent.wait()
        await self._spawn()
        return "kill -9 of its worker"

    def watch_store(self) -> None:
        """Its Redis's file."""
        self._store.watch()

    async def lose_store(self) -> str:
        """Its Redis loses its tail; its table, in Kafka, does not."""
        return await self._store.lose()

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """From the changelog of its table, the newest state of each."""
        states: dict[str, str] = {}
        consumer = AIOKafkaConsumer(
            _CHANGELOG, bootstrap_servers=self._kafka, group_id=None, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    for record in (await consumer.getmany(partition, timeout_ms=1_000)).get(partition, []):
                        states[orjson.loads(record.key)] = orjson.loads(record.value)
        finally:
            await consumer.stop()
        return {order_id for order_id in order_ids if states.get(order_id) == HELD}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """Straight from Redis."""
        return await self._stock.left(skus)

    async def _spawn(self) -> None:
        command = [sys.executable, "-m", "bench.compare.plain_agent", "worker", "--without-web"]
        await self._agent.spawn(command, self._environ)


@asynccontextmanager
async def plain_faust(folder: Path) -> AsyncIterator[FaustContender]:
    """Started, with its servers, for the duration."""
    kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log")
    valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
    try:
        await asyncio.gather(kafka.start(), valkey.start())
        contender = FaustContender(kafka, valkey, folder)
        try:
            await contender.start()
            yield contender
        finally:
            await contender.stop()
    finally:
        await asyncio.gather(kafka.stop(), valkey.stop())
