"""`python -m bench.stores`: the opening stock of many stores, loaded while another SKU is sold.

400 stores receive 2,000 SKUs each, by HTTP, a movement a store. Out: how long it took, the longest Lua call, the bytes
of the journal, and what shoppers waited meanwhile; exit status 1 where an order was not answered in time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis
from rich.console import Console

from bench.servers import BenchServers, api, servers, worker
from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.streams.topics import JOURNAL
from stocktide.tables.ledger.scripts import key_prefix

APP_ID = "stores"
OPENED_AT = "2026-01-01T00:00:00Z"
# What a shopper waits at most.
ANSWER_SECONDS_MAX = 5.0
LOAD_SECONDS_MAX = 3_000.0
SHOPPER_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Shoppers:
    """What the orders beside the load were answered: seconds of each, and how many were not 201."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    def quantile(self, share: float) -> float:
        """So many of the answers took no longer, s."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(stage: BenchServers, stores: int, skus: int, console: Console) -> bool:
    """Load, print, and say whether every order was answered in time."""
    settings = stage.settings(APP_ID)
    await ensure_topics(stage.kafka, APP_ID, settings.partitions, settings.replication)
    redis: Redis = Redis.from_url(stage.redis)
    async with (
        worker(stage, APP_ID),
        api(stage, APP_ID) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        await _receive(http, "SHOP", ["sold-meanwhile"], 1_000_000)
        await redis.config_resetstat()
        await redis.config_set("slowlog-log-slower-than", 20_000)
        await redis.config_set("slowlog-max-len", 100_000)
        await redis.slowlog_reset()
        shoppers, over, began = Shoppers(), asyncio.Event(), time.monotonic()
        shopping = asyncio.create_task(_shop(http, shoppers, over))
        names = [f"SKU{number:05d}" for number in range(skus)]
        ids = [await _receive(http, f"ST{store:03d}", names, 1) for store in range(stores)]
        for store, movement_id in enumerate(ids):
            await _applied(http, f"ST{store:03d}", movement_id)
        loaded = time.monotonic() - began

        async def all_whole() -> bool:
            return not await redis.exists(f"{key_prefix(APP_ID)}patched")

        assert await poll_until(all_whole, LOAD_SECONDS_MAX)
        whole = time.monotonic() - began
        over.set()
        await shopping
        slowest = max((entry["duration"] for entry in await redis.slowlog_get(100_000)), default=0) / 1000
        stats: dict[str, Any] = (await redis.info("commandstats")).get("cmdstat_evalsha", {})
        records, size = await _journal(stage)
        async with http.get(f"/v1/stock/{names[-1]}") as answer:
            available = (await answer.json())["available"]
    await redis.aclose()
    in_time = not shoppers.refused and max(shoppers.seconds) <= ANSWER_SECONDS_MAX
    console.print(f"{stores} stores x {skus} SKUs: applied in {loaded:.0f} s, every row whole after {whole:.0f} s")
    console.print(f"available of the last SKU: {available} (has to be {stores})")
    console.print(f"longest Lua call {slowest:.0f} ms; all Lua calls {stats.get('usec', 0) / 1e6:.1f} s of Redis")
    console.print(f"journal: {records} batches, {size / 2**20:.0f} MiB, the largest within {JOURNAL.name}'s bound")
    console.print(
        f"{len(shoppers.seconds)} orders meanwhile: p50 {shoppers.quantile(0.5) * 1000:.0f} ms, "
        f"p99 {shoppers.quantile(0.99) * 1000:.0f} ms, slowest {max(shoppers.seconds):.2f} s, "
        f"{shoppers.refused} not taken"
    )
    return in_time and available == stores


async def _receive(http: aiohttp.ClientSession, warehouse: str, skus: list[str], units: int) -> str:
    body = {
        "type": "stock.received",
        "id": f"opening-{warehouse}",
        "occurred_at": OPENED_AT,
        "warehouse": warehouse,
        "lines": [{"sku": sku, "quantity": units} for sku in skus],
    }
    async with http.post("/v1/movements", json=body) as answer:
        answer.raise_for_status()
    return str(body["id"])


async def _applied(http: aiohttp.ClientSession, warehouse: str, movement_id: str) -> None:
    async with asyncio.timeout(LOAD_SECONDS_MAX):
        while True:
            async with http.get(f"/v1/warehouses/{warehouse}/movements/{movement_id}") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.2)


async def _shop(http: aiohttp.ClientSession, shoppers: Shoppers, over: asyncio.Event) -> None:
    number = 0
    await _applied(http, "SHOP", "opening-SHOP")
    while not over.is_set():
        number += 1
        order = {"order_id": f"o{number}", "channel": "web", "lines": [{"sku": "sold-meanwhile", "quantity": 1}]}
        began = time.monotonic()
        async with http.post("/v1/orders", json=order) as answer:
            await answer.read()
            shoppers.refused += answer.status != 201
        shoppers.seconds.append(time.monotonic() - began)
        await asyncio.sleep(SHOPPER_PAUSE_SECONDS)


async def _journal(stage: BenchServers) -> tuple[int, int]:
    """How many records the journal has, and their bytes."""
    partition = TopicPartition(JOURNAL.full_name(APP_ID), 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.kafka, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        records = size = 0
        while await consumer.position(partition) < end:
            for found in (await consumer.getmany(partition, timeout_ms=2_000)).values():
                records += len(found)
                size += sum(len(record.value or b"") for record in found)
        return records, size
    finally:
        await consumer.stop()


@click.command()
@click.option("--stores", default=400, show_default=True)
@click.option("--skus", default=2_000, show_default=True)
def main(stores: int, skus: int) -> None:
    """Load the opening stock of many stores."""

    async def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            async with servers(Path(folder)) as stage:
                return await measure(stage, stores, skus, Console(width=120))

    sys.exit(0 if asyncio.run(run()) else 1)


if __name__ == "__main__":
    main()
