"""Event in → channel update out: probes during a steady load.

A probe is one order of a SKU without other orders; its latency ends when an update of that SKU is read from
`channel-stock`. The load goes to other SKUs at a fixed rate, on a schedule.
"""

from __future__ import annotations

import itertools
import time

from aiokafka import AIOKafkaProducer

from bench.load import pace
from bench.orders import encode_order, order_events
from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.client.topics import TopicReader, decoding_handler
from stocktide.retry import poll_until

# So many that a probe's SKU is used again only long after its last update.
PROBE_SKUS = 400
PROBES_A_SECOND = 100
WAIT_SECONDS_MAX = 10.0


async def measure_update_latencies(kafka: str, app_id: str, rate: float, seconds: float, run: str) -> list[float]:
    """Seconds from producing an order to reading its update, under a load of `rate` orders a second."""
    sent_at: dict[str, float] = {}
    latencies: list[float] = []

    def take(update: ChannelUpdateView) -> None:
        if (start := sent_at.pop(update.sku, None)) is not None:
            latencies.append(time.perf_counter() - start)

    async def all_read() -> bool:
        return not sent_at

    reader = TopicReader(kafka, app_id, {"channel-stock": decoding_handler(ChannelUpdateView, take)})
    await reader.start()
    try:
        await reader.catch_up()
        async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
            await _send(producer, f"{app_id}-orders", rate, seconds, run, sent_at)
            await poll_until(all_read, WAIT_SECONDS_MAX)
    finally:
        await reader.stop()
    if sent_at:
        raise RuntimeError(f"{len(sent_at)} probes were never published")
    return latencies


async def _send(
    producer: AIOKafkaProducer, topic: str, rate: float, seconds: float, run: str, sent_at: dict[str, float]
) -> None:
    load = order_events(int(rate * seconds) + 1, 1_000, f"{run}-load")
    probes = itertools.cycle(f"P{number}" for number in range(PROBE_SKUS))
    # The orders of the load, and so many of them to each probe.
    orders_a_probe, probed = rate / PROBES_A_SECOND, 0
    sent = 0
    async for _ in pace(rate, lambda elapsed: elapsed < seconds):
        if (order := next(load, None)) is not None:
            await producer.send(topic, order[1], key=order[0])
        sent += 1
        while probed < sent / orders_a_probe:
            sku, order_id = next(probes), f"{run}-probe-{probed}"
            probed += 1
            if sku not in sent_at:
                sent_at[sku] = time.perf_counter()
                await producer.send(topic, encode_order(order_id, "tmall", sku), key=order_id.encode())
