"""Order and stock events for the benchmarks, and a producer that is never the limit.

Out: bytes as a channel or a warehouse sends them. Orders have one line and are spread evenly over the channels and
over `skus` SKUs named `S0…`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until

CHANNELS = ("tmall", "jd", "pinduoduo", "douyin", "shopify")
WAREHOUSES = ("SH1", "BJ1", "GZ1")
# Enough stock that no benchmark sells out: a rejection is cheaper than a reservation and would flatter.
UNITS_EACH = 1_000_000
# As many lines as a full count of a warehouse has per event.
LINES_PER_EVENT = 500
OCCURRED_AT = "2026-01-01T00:00:00Z"

KeyValue = tuple[bytes, bytes]


def sku_name(number: int) -> str:
    """The name of a SKU."""
    return f"S{number}"


def order_events(count: int, skus: int, prefix: str) -> Iterator[KeyValue]:
    """`count` placed orders."""
    draw = random.Random(1)
    for number in range(count):
        order_id = f"{prefix}-{number}"
        yield order_id.encode(), encode_order(order_id, draw.choice(CHANNELS), sku_name(draw.randrange(skus)))


def encode_order(order_id: str, channel: str, sku: str, hold_seconds: int | None = None, units: int = 1) -> bytes:
    """One `order.placed` of one line."""
    hold = "" if hold_seconds is None else f'"hold_seconds":{hold_seconds},'
    return (
        f'{{"type":"order.placed","id":"{order_id}-placed","occurred_at":"{OCCURRED_AT}","order_id":"{order_id}",'
        f'"channel":"{channel}",{hold}"lines":[{{"sku":"{sku}","quantity":{units}}}]}}'
    ).encode()


def receipts(skus: Sequence[str], units: int = UNITS_EACH) -> Iterator[KeyValue]:
    """Receipts of `units` of every SKU in every warehouse; those of one SKU follow each other."""
    for start in range(0, len(skus), LINES_PER_EVENT):
        some = dict.fromkeys(skus[start : start + LINES_PER_EVENT], units)
        for warehouse in WAREHOUSES:
            event = movement_event("stock.received", f"open-{skus[start]}", warehouse, some)
            yield warehouse.encode(), orjson.dumps(event)


def movement_event(
    event_type: str, event_id: str, warehouse: str, units: dict[str, int], occurred_at: str = OCCURRED_AT
) -> dict[str, Any]:
    """One movement of these units by SKU."""
    return {
        "type": event_type,
        "id": event_id,
        "occurred_at": occurred_at,
        "warehouse": warehouse,
        "lines": [{"sku": sku, "quantity": count} for sku, count in units.items()],
    }


async def wait_until_applied(client: StocktideClient, warehouse: str, movement_id: str, seconds_max: float) -> None:
    """Wait for the effect of a movement. Raises TimeoutError."""

    async def is_applied() -> bool:
        return await client.movement(warehouse, movement_id) is not None

    if not await poll_until(is_applied, seconds_max):
        raise TimeoutError(f"{movement_id} was not applied within {seconds_max:.0f} s")


async def send_all(kafka: str, topic: str, partitions: int, events: Iterator[KeyValue]) -> int:
    """Append every event, partitioned by its key; the number of events."""
    sent = 0
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", max_batch_size=512 * 1024, max_request_size=4 * 1024 * 1024
    ) as producer:
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
    return sent
