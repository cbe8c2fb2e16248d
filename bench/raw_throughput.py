"""The cost of moving the bytes of an order through Kafka and Redis as Stocktide does, without deciding, decoding or
deriving anything: an upper bound for the worker on this machine.

In: servers. Out: orders a second, and µs per order of each piece alone.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from bench.servers import BenchServers
from stocktide.streams.kafka.read_topic import topic_consumer

# Bytes per order over 1,000 SKUs, seen in the topics of a run: its share of a batch, its record and the
# record of its SKU in Redis; its row of `reservations`, and its share of the rows of `stock` and `channel-stock`,
# which under load represent several orders each.
PAYLOAD_BYTES, ORDER_BYTES, SKU_BYTES = 650, 230, 200
RESERVATION_BYTES, STOCK_BYTES, STOCK_SHARE = 640, 1_150, 0.4
UPDATE_BYTES, UPDATES_SHARE = 160, 0.5
# As many orders as one call of Lua decides.
BATCH = 256
BATCHES = 150
# As many as the intake submits concurrently.
CONCURRENT_BATCHES = 4
BYTES_MAX = 8 * 1024 * 1024


async def measure_raw_throughput(servers: BenchServers) -> tuple[float, dict[str, float]]:
    """Orders a second of all pieces together; µs per order of each piece alone."""
    app_id, kafka = "floor", servers.kafka.address
    await servers.create_topics(app_id)
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=0, max_request_size=BYTES_MAX) as producer,
        topic_consumer(kafka, f"{app_id}-journal") as consumer,
    ):
        mover = _ByteMover(redis, producer, consumer, app_id)
        pieces = {
            "Redis: records written, batch appended": mover.write_redis,
            "Kafka: journal written, flushed, read back": mover.write_and_read_journal,
            "Kafka: rows of derived topics written": mover.write_rows,
        }
        each = {name: 1e6 / await _rate(piece) for name, piece in pieces.items()}
        return await _rate(mover.write_all), each


async def _rate(piece: Callable[[int], Awaitable[None]]) -> float:
    slots = asyncio.Semaphore(CONCURRENT_BATCHES)

    async def run(number: int) -> None:
        async with slots:
            await piece(number)

    began = time.perf_counter()
    await asyncio.gather(*map(run, range(BATCHES)))
    return BATCHES * BATCH / (time.perf_counter() - began)


class _ByteMover:
    """Moves random bytes, which cannot be compressed."""

    def __init__(self, redis: Redis, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, app_id: str) -> None:
        self._redis = redis
        self._producer = producer
        self._consumer = consumer
        self._app_id = app_id
        self._payload = secrets.token_bytes(PAYLOAD_BYTES * BATCH)
        self._order, self._sku = secrets.token_bytes(ORDER_BYTES), secrets.token_bytes(SKU_BYTES)
        self._reading = asyncio.Lock()

    async def write_all(self, number: int) -> None:
        """The bytes of one batch, in their order."""
        await self.write_redis(number)
        await self.write_and_read_journal(number)
        await self.write_rows(number)

    async def write_redis(self, number: int) -> None:
        """The records of a batch, its deadlines, and its outbox entry, in one round trip."""
        async with self._redis.pipeline(transaction=True) as step:
            orders = {f"floor:order:{number}-{index}": self._order for index in range(BATCH)}
            step.mset({**orders, **{f"floor:sku:{index}": self._sku for index in range(BATCH)}})
            step.zadd("floor:deadlines", {f"{number}-{index}": index for index in range(BATCH)})
            step.xadd("floor:outbox", {"payload": self._payload}, maxlen=16, approximate=False)
            await step.execute()

    async def write_and_read_journal(self, number: int) -> None:
        """One record, acknowledged and read back."""
        await self._producer.send_and_wait(f"{self._app_id}-journal", self._payload, partition=0)
        async with self._reading:
            await self._consumer.getone()

    async def write_rows(self, number: int) -> None:
        """The derived rows of a batch, partition by partition."""
        shares = (
            ("reservations", RESERVATION_BYTES, 1.0),
            ("stock", STOCK_BYTES, STOCK_SHARE),
            ("channel-stock", UPDATE_BYTES, UPDATES_SHARE),
        )
        sent = []
        for topic, size, share in shares:
            full_name = f"{self._app_id}-{topic}"
            partitions = sorted(await self._producer.partitions_for(full_name))
            rows = int(BATCH * share / len(partitions))
            for partition in partitions:
                batch = self._producer.create_batch()
                for index in range(rows):
                    value = secrets.token_bytes(size)
                    if batch.append(timestamp=None, key=b"%d-%d" % (number, index), value=value) is None:
                        sent.append(await self._producer.send_batch(batch, full_name, partition=partition))
                        batch = self._producer.create_batch()
                        batch.append(timestamp=None, key=b"%d-%d" % (number, index), value=value)
                sent.append(await self._producer.send_batch(batch, full_name, partition=partition))
        await asyncio.gather(*sent)
