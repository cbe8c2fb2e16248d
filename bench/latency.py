"""Event in → channel update out: probes among a steady load.

Every probe is one order on a SKU that nobody else orders; its latency ends when an update of that SKU is
read from `channel-stock`. The load beside it goes to other SKUs at a fixed rate, on a schedule.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.orders import encode_order, order_events
from stocktide.retry import poll_until

# A probe's SKU is used again only after its last update has long come.
PROBE_SKUS = 400
PROBES_A_SECOND = 100
# The schedule is kept in slices of this length: shorter ones cost more than they tell.
SLICE_SECONDS = 0.02
WAIT_SECONDS_MAX = 10.0


async def update_latencies(kafka: str, app_id: str, rate: float, seconds: float, run: str) -> list[float]:
    """Seconds from producing an order to reading the update that shows it, under `rate` orders a second beside."""
    sent_at: dict[str, float] = {}
    latencies: list[float] = []
    consumer = AIOKafkaConsumer(
        f"{app_id}-channel-stock", bootstrap_servers=kafka, group_id=None, auto_offset_reset="latest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await consumer.start()
    await producer.start()
    try:
        await consumer.seek_to_end()
        watching = asyncio.create_task(_watch(consumer, sent_at, latencies))
        await _drive(producer, f"{app_id}-orders", rate, seconds, run, sent_at)
        await poll_until(_none_left(sent_at), WAIT_SECONDS_MAX)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        await consumer.stop()
        await producer.stop()
    if sent_at:
        raise RuntimeError(f"{len(sent_at)} probes were never published")
    return latencies


def _none_left(sent_at: dict[str, float]) -> Callable[[], Awaitable[bool]]:
    async def empty() -> bool:
        return not sent_at

    return empty


async def _watch(consumer: AIOKafkaConsumer, sent_at: dict[str, float], latencies: list[float]) -> None:
    async for record in consumer:
        if record.value is None:
            continue
        sku = orjson.loads(record.value)["sku"]
        if (start := sent_at.pop(sku, None)) is not None:
            latencies.append(time.perf_counter() - start)


async def _drive(
    producer: AIOKafkaProducer, topic: str, rate: float, seconds: float, run: str, sent_at: dict[str, float]
) -> None:
    load = order_events(int(rate * seconds) + 1, 1_000, f"{run}-load")
    probes = itertools.cycle(f"P{number}" for number in range(PROBE_SKUS))
    start, sent, probed = time.perf_counter(), 0, 0
    while (elapsed := time.perf_counter() - start) < seconds:
        for key, value in itertools.islice(load, max(0, int(rate * elapsed) - sent)):
            await producer.send(topic, value, key=key)
            sent += 1
        while probed < PROBES_A_SECOND * elapsed:
            sku = next(probes)
            order_id = f"{run}-probe-{probed}"
            probed += 1
            if sku not in sent_at:
                sent_at[sku] = time.perf_counter()
                await producer.send(topic, encode_order(order_id, "tmall", sku), key=order_id.encode())
        await asyncio.sleep(SLICE_SECONDS)
