"""Order events for the benchmarks, and a producer that is never the limit.

One line an order, spread evenly over `skus` SKUs named `S0…`, over five channels. Bytes as a channel would send them.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence

from aiokafka import AIOKafkaProducer

CHANNELS = ("tmall", "jd", "pinduoduo", "douyin", "shopify")
WAREHOUSES = ("SH1", "BJ1", "GZ1")
# So much stock that no benchmark ever sells out: refusals are cheaper than reservations and would flatter.
UNITS_EACH = 1_000_000
_OCCURRED_AT = "2026-11-11T00:00:00Z"

KeyValue = tuple[bytes, bytes]


def order_events(count: int, skus: int, prefix: str, seed: int = 1) -> Iterator[KeyValue]:
    """(key, value) of `count` placed orders."""
    draw = random.Random(seed)
    for number in range(count):
        order_id = f"{prefix}-{number}"
        yield order_id.encode(), encode_order(order_id, draw.choice(CHANNELS), f"S{draw.randrange(skus)}")


def encode_order(order_id: str, channel: str, sku: str) -> bytes:
    """One `order.placed` of one unit."""
    return (
        f'{{"type":"order.placed","id":"{order_id}-placed","occurred_at":"{_OCCURRED_AT}","order_id":"{order_id}",'
        f'"channel":"{channel}","lines":[{{"sku":"{sku}","quantity":1}}]}}'
    ).encode()


def receipts(skus: Sequence[str], lines_each: int = 500) -> Iterator[KeyValue]:
    """(key, value) of the receipts that put `UNITS_EACH` of every SKU into every warehouse."""
    for warehouse in WAREHOUSES:
        for start in range(0, len(skus), lines_each):
            lines = ",".join(f'{{"sku":"{sku}","quantity":{UNITS_EACH}}}' for sku in skus[start : start + lines_each])
            value = (
                f'{{"type":"stock.received","id":"open-{skus[start]}","occurred_at":"{_OCCURRED_AT}",'
                f'"warehouse":"{warehouse}","lines":[{lines}]}}'
            )
            yield warehouse.encode(), value.encode()


async def send_all(kafka: str, topic: str, partitions: int, events: Iterator[KeyValue]) -> int:
    """Append every event, partitioned by its key; how many there were."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", max_batch_size=512 * 1024, max_request_size=4 * 1024 * 1024
    )
    await producer.start()
    sent = 0
    try:
        open_batches = {number: producer.create_batch() for number in range(partitions)}
        for key, value in events:
            partition = zlib.crc32(key) % partitions
            if open_batches[partition].append(timestamp=None, key=key, value=value) is None:
                await producer.send_batch(open_batches[partition], topic, partition=partition)
                open_batches[partition] = producer.create_batch()
                open_batches[partition].append(timestamp=None, key=key, value=value)
            sent += 1
        for partition, batch in open_batches.items():
            if batch.record_count():
                await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return sent
