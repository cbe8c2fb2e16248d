"""Event in → channel update out: probes during a steady load.

A probe is one order of a SKU without other orders; its latency ends when an update of that SKU is read from
`channel-stock`. The load goes to other SKUs at a fixed rate, on a schedule.
"""

from __future__ import annotations

import asyncio
import itertools
import time

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.orders import encode_order, order_events
from stocktide.retry import poll_until

# So many that a probe's SKU is used again only long after its last update.
PROBE_SKUS = 400
PROBES_A_SECOND = 100
# The schedule is kept in slices of this length; shorter ones cost more CPU.
SLICE_SECONDS = 0.02
WAIT_SECONDS_MAX = 10.0


async def measure_update_latencies(kafka: str, app_id: str, rate: float, seconds: float, run: str) -> list[float]:
    """Seconds from producing an order to reading its update, under a load of `rate` orders a second."""
    sent_at: dict[str, float] = {}
    latencies: list[float] = []
    consumer = AIOKafkaConsumer(
        f"{app_id}-channel-stock", bootstrap_servers=kafka, group_id=None, auto_offset_reset="latest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await consumer.start()
    await producer.start()

    async def all_read() -> bool:
        return not sent_at

    try:
        await consumer.seek_to_end()
        reading = asyncio.create_task(_read(consumer, sent_at, latencies))
        await _send(producer, f"{app_id}-orders", rate, seconds, run, sent_at)
        await poll_until(all_read, WAIT_SECONDS_MAX)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    finally:
        await consumer.stop()
        await producer.stop()
    if sent_at:
        raise RuntimeError(f"{len(sent_at)} probes were never published")
    return latencies


async def _read(consumer: AIOKafkaConsumer, sent_at: dict[str, float], latencies: list[float]) -> None:
    async for record in consumer:
        if record.value is None:
            continue
        sku = orjson.loads(record.value)["sku"]
        if (start := sent_at.pop(sku, None)) is not None:
            latencies.append(time.perf_counter() - start)


async def _send(
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
