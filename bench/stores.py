"""`python -m bench.stores`: the opening stock of many stores, loaded while orders of another SKU arrive.

In: 400 stores that receive 2,000 SKUs each by HTTP, one movement per store. Out: the duration, the longest Lua call,
the bytes of the journal, and the latency of the orders; exit status 1 if an order was not answered in time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson
from redis.asyncio import Redis
from rich.console import Console

from bench.compare.stocktide_contender import get_json, receive, wait_until_applied
from bench.orders import encode_movement, read_all
from bench.rates import percentile
from bench.servers import BenchServers, run_servers, run_stocktide
from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until
from stocktide.streams.topics import JOURNAL
from stocktide.tables.ledger.scripts import key_prefix

APP_ID = "stores"
# The deadline of an order.
ORDER_SECONDS_MAX = 5.0
LOAD_SECONDS_MAX = 3_000.0
ORDER_PAUSE_SECONDS = 0.05
REQUESTS_MAX = 64


@dataclass(slots=True)
class OrderLatencies:
    """The responses to the orders during the load: the seconds of each, and how many were not 201."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0


async def measure(servers: BenchServers, stores: int, skus: int, console: Console) -> bool:
    """Load, print, and return whether every order was answered in time."""
    await servers.create_topics(APP_ID)
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        run_stocktide(servers, APP_ID, "worker"),
        run_stocktide(servers, APP_ID, "api") as api,
        StocktideClient(api.url, REQUESTS_MAX) as client,
    ):
        await _receive(client, "SHOP", ["sold-meanwhile"], 1_000_000)
        await wait_until_applied(client, "SHOP", "opening-SHOP", LOAD_SECONDS_MAX)
        await redis.config_resetstat()
        await redis.config_set("slowlog-log-slower-than", 20_000)
        await redis.config_set("slowlog-max-len", 100_000)
        await redis.slowlog_reset()
        latencies, over, began = OrderLatencies(), asyncio.Event(), time.monotonic()
        ordering = asyncio.create_task(_place_orders(client, latencies, over))
        names = [f"SKU{number:05d}" for number in range(skus)]
        warehouses = [f"ST{store:03d}" for store in range(stores)]
        for warehouse in warehouses:
            await _receive(client, warehouse, names, 1)
        for warehouse in warehouses:
            await wait_until_applied(client, warehouse, f"opening-{warehouse}", LOAD_SECONDS_MAX)
        loaded = time.monotonic() - began

        async def all_whole() -> bool:
            return not await redis.exists(f"{key_prefix(APP_ID)}patched")

        assert await poll_until(all_whole, LOAD_SECONDS_MAX)
        whole = time.monotonic() - began
        over.set()
        await ordering
        slowest = max((entry["duration"] for entry in await redis.slowlog_get(100_000)), default=0) / 1000
        stats: dict[str, Any] = (await redis.info("commandstats")).get("cmdstat_evalsha", {})
        topic = JOURNAL.full_name(APP_ID)
        sizes = [len(record.value or b"") async for record in read_all(servers.kafka.address, topic)]
        available = (await get_json(client, f"/v1/stock/{names[-1]}") or {}).get("available")
    seconds = latencies.seconds
    console.print(f"{stores} stores x {skus} SKUs: applied in {loaded:.0f} s, every row whole after {whole:.0f} s")
    console.print(f"available of the last SKU: {available} (has to be {stores})")
    console.print(f"longest Lua call {slowest:.0f} ms; all Lua calls {stats.get('usec', 0) / 1e6:.1f} s of Redis")
    console.print(f"journal: {len(sizes)} batches, {sum(sizes) / 2**20:.0f} MiB")
    console.print(
        f"{len(seconds)} orders meanwhile: p50 {percentile(seconds, 0.5) * 1000:.0f} ms, "
        f"p99 {percentile(seconds, 0.99) * 1000:.0f} ms, slowest {max(seconds):.2f} s, {latencies.refused} not taken"
    )
    return not latencies.refused and max(seconds) <= ORDER_SECONDS_MAX and available == stores


async def _receive(client: StocktideClient, warehouse: str, skus: list[str], units: int) -> None:
    _, movement = encode_movement("stock.received", f"opening-{warehouse}", warehouse, skus, units)
    await receive(client, movement)


async def _place_orders(client: StocktideClient, latencies: OrderLatencies, over: asyncio.Event) -> None:
    number = 0
    while not over.is_set():
        number += 1
        order = {"order_id": f"o{number}", "channel": "web", "lines": [{"sku": "sold-meanwhile", "quantity": 1}]}
        began = time.monotonic()
        response = await client.call("POST", "/v1/orders", orjson.dumps(order))
        latencies.refused += response.status != 201
        latencies.seconds.append(time.monotonic() - began)
        await asyncio.sleep(ORDER_PAUSE_SECONDS)


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
