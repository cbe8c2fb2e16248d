"""Workers of one installation as processes, and the content of its topics and its ledger.

In: addresses of Kafka and Redis, an app id, a folder. Out: workers, input events, rows, records of the ledger.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from stocktide.embedded.ports import pick_free_port
from stocktide.loadtest.run.quiesce import InputBacklog
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.kafka.groups import DECIDED_TOPICS, PUBLISHED_TOPICS, deciding_group, publishing_group
from stocktide.streams.kafka.membership import Membership
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.kafka.transport import Record
from stocktide.streams.topics import MOVEMENTS, ORDERS, Topic
from stocktide.tables.ledger.client import Ledger, Unblessed
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.records import SkuRecord
from tests.harness.events import Event, placed_and_paid, stock_received
from tests.harness.eventually import eventually, holds_already
from tests.harness.process import CommandResult, StocktideProcess, run_stocktide

PARTITIONS = 4
# Each of these takes a second or two on a quiet machine.
WAIT_SECONDS_MAX = 60.0


@dataclass
class WorkerGroup:
    """Any number of workers of one installation."""

    kafka: str
    redis: str
    app_id: str
    folder: Path
    workers: list[StocktideProcess] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the installation."""
        return {
            "STOCKTIDE_APP_ID": self.app_id,
            "STOCKTIDE_KAFKA": self.kafka,
            "STOCKTIDE_REDIS": self.redis,
            "STOCKTIDE_DATA": str(self.folder),
            "STOCKTIDE_PARTITIONS": str(PARTITIONS),
        }

    async def run(self, *arguments: str) -> CommandResult:
        return await run_stocktide(*arguments, environ=self.environ)

    async def start(self, name: str = "w1", wait: bool = True, **settings: str) -> StocktideProcess:
        """Start a worker; a worker of the same name continues with its data."""
        port = str(pick_free_port())
        environ = {**self.environ, "STOCKTIDE_WORKER_NAME": name, "STOCKTIDE_WORKER_PORT": port, **settings}
        worker = StocktideProcess(name, ["worker"], environ, self.folder / f"{name}.log", f"http://127.0.0.1:{port}")
        self.workers.append(worker)
        await worker.start()
        if wait:
            await worker.wait_ready()
        return worker

    async def close(self) -> None:
        """Kill the workers that still run."""
        for worker in self.workers:
            await worker.stop(signal.SIGKILL)

    def log_tails(self) -> str:
        return "\n".join(worker.log_tail() for worker in self.workers)

    def topic(self, topic: Topic) -> str:
        return topic.full_name(self.app_id)

    async def write(
        self, topic: Topic, *rows: tuple[str, Event | bytes], to_partition: Callable[[bytes], int] | None = None
    ) -> None:
        """Write (key, value) pairs; return when Kafka has them."""
        async with self.publisher() as publisher:
            await publisher.publish(self.topic(topic), map(_encode, rows), publisher.epoch, to_partition)

    async def send_orders(self, *events: Event) -> None:
        await self.write(ORDERS, *((str(event["order_id"]), event) for event in events))

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        membership = Membership(1e9)
        membership.begin()
        publisher = Publisher(make_producer(self.kafka), membership)
        await publisher.start()
        yield publisher
        await publisher.stop()

    async def place_orders(self, numbers: range, per_second: int) -> None:
        """Place and pay orders `o<number>` at a steady rate."""
        step = max(1, per_second // 20)
        async with self.publisher() as publisher:
            for start in range(numbers.start, numbers.stop, step):
                some = range(start, min(start + step, numbers.stop))
                rows = [_encode((f"o{number}", event)) for number in some for event in placed_and_paid(f"o{number}")]
                await publisher.publish(self.topic(ORDERS), rows, publisher.epoch)
                await asyncio.sleep(step / per_second)

    async def receive(self, skus: Iterable[str], quantity: int) -> None:
        """Receive units of each SKU into SH1, and wait until the ledger has them."""
        event = stock_received("opening", *((sku, quantity) for sku in skus))
        await self.write(MOVEMENTS, ("SH1", event))
        for line in event["lines"]:
            await self.sku_when(str(line["sku"]), lambda record: bool(record.counters.get("on_hand@SH1")))

    async def sku_when(self, sku: str, holds: Callable[[SkuRecord], bool]) -> SkuRecord:
        """The ledger's record of a SKU, once `holds` is true of it and its batch is settled."""
        found: list[SkuRecord] = []
        async with connect(self.redis) as redis:
            ledger = Ledger(redis, self.app_id)

            async def matches() -> bool:
                try:
                    read = await ledger.read_sku(sku)
                except (Unblessed, RedisError, OSError):  # during a recovery
                    return False
                if read.value is not None and read.settled == read.batch and holds(read.value[0]):
                    found.append(read.value[0])
                return bool(found)

            await eventually(matches, WAIT_SECONDS_MAX, lambda: f"{sku} is not as expected\n{self.log_tails()}")
        return found[0]

    async def records(self, topic: Topic) -> list[Record]:
        """All records of a topic, partition by partition in order."""
        async with topic_consumer(self.kafka, self.topic(topic)) as consumer:
            return [record async for _, some in read_topic(consumer) for record in some]

    async def rows(self, topic: Topic) -> dict[str, Any]:
        records = await self.records(topic)
        return {(record.key or b"").decode(): record.value and json.loads(record.value) for record in records}

    async def rows_when(self, topic: Topic, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def matches() -> bool:
            found.clear()
            found.update(await self.rows(topic))
            return holds_already(holds, found)

        await eventually(matches, WAIT_SECONDS_MAX, lambda: f"{str(found)[-2000:]}\n{self.log_tails()}")
        return found

    async def uncommitted(self) -> int:
        """The lag of both groups on all topics that they consume, in records."""
        async with all_backlogs(self.kafka, self.app_id) as backlog:
            return await backlog.count()


class AllBacklogs:
    """The backlogs of both groups of the workers, as one."""

    def __init__(self, backlogs: Sequence[InputBacklog]) -> None:
        self._backlogs = backlogs

    async def count(self) -> int:
        """The uncommitted records. Raises KafkaError."""
        return sum([await backlog.count() for backlog in self._backlogs])


@asynccontextmanager
async def all_backlogs(kafka: str, app_id: str) -> AsyncIterator[AllBacklogs]:
    """What the workers have not committed of all topics that they consume."""
    groups = ((deciding_group(app_id), DECIDED_TOPICS), (publishing_group(app_id), PUBLISHED_TOPICS))
    backlogs = [InputBacklog(kafka, app_id, [topic.name for topic in topics], group) for group, topics in groups]
    async with AsyncExitStack() as stack:
        yield AllBacklogs([await stack.enter_async_context(backlog) for backlog in backlogs])


@asynccontextmanager
async def worker_group(kafka: str, redis: str, app_id: str, folder: Path) -> AsyncIterator[WorkerGroup]:
    """A group without workers, with its topics; its workers are killed at the end."""
    await ensure_topics(kafka, app_id, PARTITIONS)
    group = WorkerGroup(kafka, redis, app_id, folder)
    try:
        yield group
    finally:
        await group.close()


def _encode(row: tuple[str, Event | bytes]) -> tuple[bytes, bytes]:
    key, value = row
    return key.encode(), value if isinstance(value, bytes) else json.dumps(value).encode()
