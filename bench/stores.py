"""`python -m bench.stores`: the opening stock of many stores, loaded while orders of another SKU arrive.

In: 400 stores that receive 2,000 SKUs each by HTTP, one movement per store. Out: the duration, the longest Lua call,
the bytes of the journal, and the latency of the orders; exit status 1 if an order was not answered in time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import orjson
from redis.asyncio import Redis
from rich.console import Console

from bench.http_load import ORDERS_PATH
from bench.load import percentile
from bench.orders import UNITS_EACH, movement_event, wait_until_applied
from bench.servers import BenchedProcess, BenchServers, run_servers, running
from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.topics import JOURNAL
from stocktide.tables.ledger.scripts import key_prefix

APP_ID = "stores"
SOLD_MEANWHILE = "sold-meanwhile"
# The deadline of an order.
ORDER_SECONDS_MAX = 5.0
LOAD_SECONDS_MAX = 3_000.0
ORDER_PAUSE_SECONDS = 0.05
REQUESTS_MAX = 64


async def measure(servers: BenchServers, stores: int, skus: int, console: Console) -> bool:
    """Load, print, and return whether every order was answered in time."""
    await servers.create_topics(APP_ID)
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        running(BenchedProcess(servers, APP_ID, "worker")),
        running(BenchedProcess(servers, APP_ID, "api")) as api,
        StocktideClient(api.url, REQUESTS_MAX) as client,
    ):
        await client.send_event(_opening("SHOP", {SOLD_MEANWHILE: UNITS_EACH}))
        await wait_until_applied(client, "SHOP", "opening-SHOP", LOAD_SECONDS_MAX)
        await redis.config_resetstat()
        await redis.config_set("slowlog-log-slower-than", 20_000)
        await redis.config_set("slowlog-max-len", 100_000)
        await redis.slowlog_reset()
        over, began = asyncio.Event(), time.monotonic()
        ordering = asyncio.create_task(_place_orders(client, over))
        names = [f"SKU{number:05d}" for number in range(skus)]
        warehouses = [f"ST{store:03d}" for store in range(stores)]
        for warehouse in warehouses:
            await client.send_event(_opening(warehouse, dict.fromkeys(names, 1)))
        for warehouse in warehouses:
            await wait_until_applied(client, warehouse, f"opening-{warehouse}", LOAD_SECONDS_MAX)
        loaded = time.monotonic() - began

        async def all_whole() -> bool:
            return not await redis.exists(f"{key_prefix(APP_ID)}patched")

        assert await poll_until(all_whole, LOAD_SECONDS_MAX)
        whole = time.monotonic() - began
        over.set()
        responses = await ordering
        slowest = max((entry["duration"] for entry in await redis.slowlog_get(100_000)), default=0) / 1000
        stats: dict[str, Any] = (await redis.info("commandstats")).get("cmdstat_evalsha", {})
        sizes: list[int] = []
        async with topic_consumer(servers.kafka.address, JOURNAL.full_name(APP_ID)) as consumer:
            async for _, records in read_topic(consumer):
                sizes += [len(record.value or b"") for record in records]
        last = await client.stock(names[-1])
        available = last.available if last is not None else None
    seconds = [took for _, took in responses]
    refused = sum(status != 201 for status, _ in responses)
    console.print(f"{stores} stores x {skus} SKUs: applied in {loaded:.0f} s, every row whole after {whole:.0f} s")
    console.print(f"available of the last SKU: {available} (has to be {stores})")
    console.print(f"longest Lua call {slowest:.0f} ms; all Lua calls {stats.get('usec', 0) / 1e6:.1f} s of Redis")
    console.print(f"journal: {len(sizes)} batches, {sum(sizes) / 2**20:.0f} MiB")
    console.print(
        f"{len(seconds)} orders meanwhile: p50 {percentile(seconds, 0.5) * 1000:.0f} ms, "
        f"p99 {percentile(seconds, 0.99) * 1000:.0f} ms, slowest {max(seconds):.2f} s, {refused} not taken"
    )
    return not refused and max(seconds) <= ORDER_SECONDS_MAX and available == stores


def _opening(warehouse: str, units: dict[str, int]) -> dict[str, Any]:
    return movement_event("stock.received", f"opening-{warehouse}", warehouse, units)


async def _place_orders(client: StocktideClient, over: asyncio.Event) -> list[tuple[int, float]]:
    """The status of each order during the load, and the seconds to its response."""
    responses: list[tuple[int, float]] = []
    while not over.is_set():
        lines = [{"sku": SOLD_MEANWHILE, "quantity": 1}]
        order = {"order_id": f"o{len(responses) + 1}", "channel": "web", "lines": lines}
        began = time.monotonic()
        response = await client.call("POST", ORDERS_PATH, orjson.dumps(order))
        responses.append((response.status, time.monotonic() - began))
        await asyncio.sleep(ORDER_PAUSE_SECONDS)
    return responses


@click.command()
@click.option("--stores", default=400, show_default=True)
@click.option("--skus", default=2_000, show_default=True)
def main(stores: int, skus: int) -> None:
    """Load the opening stock of many stores."""

    async def run() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            async with run_servers(Path(folder)) as servers:
                return await measure(servers, stores, skus, Console(width=120))

    sys.exit(0 if asyncio.run(run()) else 1)


if __name__ == "__main__":
    main()
