"""Workers as real processes on the real servers, and what Kafka and Redis hold in the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from redis.exceptions import RedisError

from stocktide.embedded.ports import pick_free_port
from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.membership import Membership
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.topics import MOVEMENTS, ORDERS, TOPICS, Topic
from stocktide.tables.ledger.client import Ledger, Unblessed
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.records import SkuRecord

PARTITIONS = 4
# Each of these takes a second or two on a quiet machine.
WAIT_SECONDS_MAX = 60.0
AT = "2026-11-24T00:00:00Z"


@dataclass
class WorkerProcess:
    """One `stocktide worker`."""

    name: str
    process: asyncio.subprocess.Process
    port: int
    log: Path

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal and wait for its end; the exit status."""
        self.send(number)
        return await asyncio.wait_for(self.process.wait(), WAIT_SECONDS_MAX)

    async def ask(self, path: str) -> tuple[int, str]:
        """Status and body of an answer of its endpoint; status 0 where none comes."""
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        return (await self.ask("/readyz"))[0] == 200

    async def gauge(self, name: str) -> float:
        """The sum of a metric's samples."""
        _, text = await self.ask("/metrics")
        lines = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def wait_ready(self) -> None:
        """Fails with the end of its log if it does not become ready."""
        assert await poll_until(self.is_ready, WAIT_SECONDS_MAX), self.last_log_lines()

    def last_log_lines(self) -> str:
        """The end of its log."""
        return f"{self.name}:\n{self.log.read_text()[-4000:]}"


@dataclass
class WorkerGroup:
    """Any number of workers of one installation."""

    kafka: str
    redis: str
    app_id: str
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    async def start(self, name: str = "w1", ready: bool = True, **settings: str) -> WorkerProcess:
        """Start a worker; one of the same name goes on with its folder."""
        port = pick_free_port()
        environ = {
            **os.environ,
            "STOCKTIDE_APP_ID": self.app_id,
            "STOCKTIDE_KAFKA": self.kafka,
            "STOCKTIDE_REDIS": self.redis,
            "STOCKTIDE_DATA": str(self.folder),
            "STOCKTIDE_PARTITIONS": str(PARTITIONS),
            "STOCKTIDE_WORKER_NAME": name,
            "STOCKTIDE_WORKER_PORT": str(port),
            **settings,
        }
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stocktide", "worker", stdout=output, stderr=output, env=environ
            )
        worker = WorkerProcess(name, process, port, log)
        self.workers.append(worker)
        if ready:
            await worker.wait_ready()
        return worker

    async def close(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.process.returncode is None:
                worker.send(signal.SIGCONT)
                worker.send(signal.SIGKILL)
                await worker.process.wait()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Publisher]:
        """Writes events as channels and warehouses do."""
        membership = Membership(1e9)
        membership.begin()
        publisher = Publisher(make_producer(self.kafka), membership)
        await publisher.start()
        yield publisher
        await publisher.stop()

    async def send(self, topic: Topic, events: Iterable[tuple[str, dict[str, Any] | bytes]]) -> None:
        """Write (key, event) pairs and return when Kafka has them."""
        async with self.producer() as publisher:
            await publisher.publish(topic.full_name(self.app_id), [_row(*pair) for pair in events], publisher.epoch)

    async def receive(self, skus: Iterable[str], quantity: int) -> None:
        """Receive so many of each SKU into SH1, and wait until the ledger has them."""
        lines = [{"sku": sku, "quantity": quantity} for sku in skus]
        event = {"type": "stock.received", "id": "opening", "occurred_at": AT, "warehouse": "SH1", "lines": lines}
        await self.send(MOVEMENTS, [("SH1", event)])
        for line in lines:
            await self.sku_when(str(line["sku"]), lambda record: bool(record.counters.get("on_hand@SH1")))

    async def sku_when(self, sku: str, holds: Any) -> SkuRecord:
        """The ledger's record of a SKU once it `holds`, and the batch is settled."""
        async with connect(self.redis) as redis:
            ledger = Ledger(redis, self.app_id)
            found: list[SkuRecord] = []

            async def looks_right() -> bool:
                try:
                    read = await ledger.read_sku(sku)
                except (Unblessed, RedisError, OSError):  # it is being brought back
                    return False
                if read.value is None or read.settled != read.batch or not holds(read.value[0]):
                    return False
                found.append(read.value[0])
                return True

            assert await poll_until(looks_right, WAIT_SECONDS_MAX), await self.state_of(ledger, sku)
            return found[-1]

    async def state_of(self, ledger: Ledger, sku: str) -> str:
        """For a failure's message."""
        logs = "\n".join(worker.last_log_lines() for worker in self.workers)
        return f"{await ledger.read_sku(sku)}\n{logs}"

    async def records(self, topic: Topic) -> list[ConsumerRecord[bytes | None, bytes | None]]:
        """All records of a topic as it is now, partition by partition in order."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            count = topic.partitions or PARTITIONS
            parts = [TopicPartition(topic.full_name(self.app_id), number) for number in range(count)]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            found: list[ConsumerRecord[bytes | None, bytes | None]] = []
            while [part for part in parts if await consumer.position(part) < ends[part]]:
                for some in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(some)
            return found
        finally:
            await consumer.stop()

    async def newest(self, topic: Topic) -> dict[str, Any]:
        """The newest row of each key."""
        rows = {}
        for record in await self.records(topic):
            rows[(record.key or b"").decode()] = record.value and json.loads(record.value)
        return rows

    async def newest_when(self, topic: Topic, holds: Any) -> dict[str, Any]:
        """The newest rows once they `hold`."""
        found: dict[str, Any] = {}

        async def looks_right() -> bool:
            found.clear()
            found.update(await self.newest(topic))
            return bool(holds(found))

        logs = "\n".join(worker.last_log_lines() for worker in self.workers)
        assert await poll_until(looks_right, WAIT_SECONDS_MAX), f"{len(found)} rows: {str(found)[-2000:]}\n{logs}"
        return found

    async def uncommitted(self) -> dict[str, int]:
        """Records of each input that the group has not committed."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, group_id=self.app_id, enable_auto_commit=False)
        await consumer.start()
        try:
            lags = {}
            for topic in TOPICS:
                parts = [
                    TopicPartition(topic.full_name(self.app_id), number)
                    for number in range(topic.partitions or PARTITIONS)
                ]
                ends = await consumer.end_offsets(parts)
                lags[topic.name] = sum([ends[part] - (await consumer.committed(part) or 0) for part in parts])
            return {name: lags[name] for name in ("orders", "movements", "journal", "stock")}
        finally:
            await consumer.stop()


async def make_worker_group(kafka: str, redis: str, app_id: str, folder: Path) -> WorkerGroup:
    """A fleet without workers yet, its topics made."""
    await ensure_topics(kafka, app_id, PARTITIONS)
    return WorkerGroup(kafka, redis, app_id, folder)


def placed(order_id: str, sku: str = "A", quantity: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    """A key and an `order.placed` of one line."""
    event = {
        "type": "order.placed",
        "id": f"{order_id}-placed",
        "occurred_at": AT,
        "order_id": order_id,
        "channel": "jd",
        "lines": [{"sku": sku, "quantity": quantity}],
    }
    return order_id, {**event, **more}


def paid(order_id: str) -> tuple[str, dict[str, Any]]:
    """A key and an `order.paid`."""
    return order_id, {"type": "order.paid", "id": f"{order_id}-paid", "occurred_at": AT, "order_id": order_id}


async def send_steadily(fleet: WorkerGroup, orders: range, per_second: int) -> None:
    """Place and pay orders `o<number>`, a few at a time, at a steady rate."""
    async with fleet.producer() as publisher:
        step = max(1, per_second // 20)
        for start in range(orders.start, orders.stop, step):
            pairs = [pair for number in orders[start - orders.start :][:step] for pair in order_of(f"o{number}")]
            await publisher.publish(ORDERS.full_name(fleet.app_id), [_row(*pair) for pair in pairs], publisher.epoch)
            await asyncio.sleep(step / per_second)


def order_of(order_id: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Placed, then paid."""
    return placed(order_id), paid(order_id)


def _row(key: str, event: dict[str, Any] | bytes) -> tuple[bytes, bytes]:
    return key.encode(), event if isinstance(event, bytes) else json.dumps(event).encode()
