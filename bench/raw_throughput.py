"""The floor: what the same bytes cost with no thought. An order's bytes through Kafka and through Redis, as Stocktide
moves them, and nothing decided, decoded or derived.

In: servers. Out: orders a second, and what each piece takes. Whoever wants to be faster than this has to move fewer
bytes, or fewer batches of them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from bench.servers import BenchServers
from stocktide.streams.kafka.admin import ensure_topics

# What an order over 1,000 SKUs takes, seen in the topics of a run: bytes of its event, of its share of a batch, of its
# record and of its SKU's record in Redis; of its row of `reservations`, and of its share of the rows of `stock` and
# `channel-stock`, of which under load one stands for several orders.
EVENT_BYTES, PAYLOAD_BYTES, ORDER_BYTES, SKU_BYTES = 200, 650, 230, 200
RESERVATION_BYTES, STOCK_BYTES, STOCK_SHARE = 640, 1_150, 0.4
UPDATE_BYTES, UPDATES_SHARE = 160, 0.5
# As many orders as one call of Lua decides.
BATCH = 256
BATCHES = 150
# Batches under way at once, as the intake has them.
UNDER_WAY = 4


async def measure_raw_throughput(stage: BenchServers) -> tuple[float, dict[str, float]]:
    """Orders a second of the bytes alone, everything at once; and µs an order of each piece by itself."""
    app_id = "floor"
    await ensure_topics(stage.kafka, app_id, stage.settings(app_id).partitions, 1)
    redis = Redis.from_url(stage.redis)
    producer = AIOKafkaProducer(
        bootstrap_servers=stage.kafka, acks="all", linger_ms=0, max_request_size=8 * 1024 * 1024
    )
    consumer = AIOKafkaConsumer(
        f"{app_id}-journal",
        bootstrap_servers=stage.kafka,
        group_id=None,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await producer.start()
    await consumer.start()
    try:
        bytes_of = _Bytes(redis, producer, consumer, app_id)
        pieces = {
            "Redis: records written, batch appended": bytes_of.into_redis,
            "Kafka: journal written, flushed, read back": bytes_of.through_journal,
            "Kafka: rows of derived topics written": bytes_of.into_rows,
        }
        each: dict[str, float] = {}
        for name, piece in pieces.items():
            each[name] = 1e6 / await _rate(piece)
        return await _rate(bytes_of.all), each
    finally:
        await consumer.stop()
        await producer.stop()
        await redis.aclose()


async def _rate(piece: Callable[[int], Awaitable[None]]) -> float:
    places = asyncio.Semaphore(UNDER_WAY)

    async def one(number: int) -> None:
        async with places:
            await piece(number)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(BATCHES)))
    return BATCHES * BATCH / (time.perf_counter() - began)


class _Bytes:
    """Random bytes, so that nothing is spared by compressing them."""

    def __init__(self, redis: Redis, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, app_id: str) -> None:
        self._redis = redis
        self._producer = producer
        self._consumer = consumer
        self._app_id = app_id
        self._payload = secrets.token_bytes(PAYLOAD_BYTES * BATCH)
        self._order, self._sku = secrets.token_bytes(ORDER_BYTES), secrets.token_bytes(SKU_BYTES)
        self._reading = asyncio.Lock()

    async def all(self, number: int) -> None:
        """What one batch moves, in the order in which it moves."""
        await self.into_redis(number)
        await self.through_journal(number)
        await self.into_rows(number)

    async def into_redis(self, number: int) -> None:
        """The records of a batch, its deadlines, and its entry of the outbox, in one round trip."""
        async with self._redis.pipeline(transaction=True) as step:
            orders = {f"floor:order:{number}-{index}": self._order for index in range(BATCH)}
            step.mset({**orders, **{f"floor:sku:{index}": self._sku for index in range(BATCH)}})
            step.zadd("floor:deadlines", {f"{number}-{index}": index for index in range(BATCH)})
            step.xadd("floor:outbox", {"payload": self._payload}, maxlen=16, approximate=False)
            await step.execute()

    async def through_journal(self, number: int) -> None:
        """One record, acknowledged and read back."""
        await self._producer.send_and_wait(f"{self._app_id}-journal", self._payload, partition=0)
        async with self._reading:
            await self._consumer.getone()

    async def into_rows(self, number: int) -> None:
        """The rows that a batch ends in, partition by partition."""
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
