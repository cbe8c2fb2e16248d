"""100,000 preorders of one SKU, filled by one receipt while orders of other SKUs arrive.

In: servers. Out: rows of the report: the time of the fill, the longest Lua call, the latency of the other orders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import orjson
from redis.asyncio import Redis

from bench.http_load import load_http
from bench.load import LoadResult
from bench.orders import KeyValue, encode_order, movement_event, send_all
from bench.report import Report
from bench.rows import SKUS
from bench.servers import BenchedProcess, BenchServers, receive_opening_stock, running
from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until

APP_ID = "waiting"
AWAITED, WAREHOUSE = "AWAITED", "SH1"
# Two channels share the queue.
CHANNELS = ("tmall", "jd")
PREORDERS = 100_000
# They must outlive the run.
HOLD_SECONDS = 86_400
# One unit is on hand and lies below the threshold, so that the channels take preorders.
POLICY = {"below_threshold": "preorder", "safety_threshold": 1, "preorder_cap": 1_000_000_000}
# Orders of other SKUs a second: far below the peak, so that their latency shows what the fill costs them.
OTHER_RATE, OTHER_SECONDS, CONNECTIONS = 200.0, 20.0, 64
SETTLED_SECONDS_MAX = 600.0
SLOW_LOG_US, SLOW_LOG_ENTRIES = 1_000, 100_000
FILL_SECONDS_GOAL, CALL_MS_GOAL, LATENCY_RATIO_GOAL = 20.0, 20.0, 2.0


async def measure_waiting(servers: BenchServers, report: Report) -> None:
    """Place the preorders over Kafka, measure other orders, then once more beside the receipt."""
    report.log(f"{PREORDERS:,} preorders of one SKU, filled by one receipt …")
    await receive_opening_stock(servers, APP_ID, SKUS)
    worker, api = (BenchedProcess(servers, APP_ID, kind) for kind in ("worker", "api"))
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        running(worker),
        running(api),
        StocktideClient(api.url, CONNECTIONS) as client,
    ):
        for channel in CHANNELS:
            await client.call("PUT", f"/v1/policies/{channel}/{AWAITED}", orjson.dumps(POLICY))
        await client.send_event(movement_event("stock.received", "first", WAREHOUSE, {AWAITED: 1}))
        await _wait_until_preordered(client, 0)
        began = time.monotonic()
        await send_all(servers.kafka.address, f"{APP_ID}-orders", servers.settings(APP_ID).partitions, _preorders())
        await _wait_until_preordered(client, PREORDERS)
        report.log(f"  placed in {time.monotonic() - began:.1f} s")
        await load_http(api.port, "warm", CONNECTIONS)
        usual = await load_http(api.port, "usual", CONNECTIONS, rate=OTHER_RATE, seconds=OTHER_SECONDS)
        await redis.config_set("slowlog-log-slower-than", SLOW_LOG_US)
        await redis.config_set("slowlog-max-len", SLOW_LOG_ENTRIES)
        await redis.slowlog_reset()
        meanwhile, seconds = await asyncio.gather(
            load_http(api.port, "meanwhile", CONNECTIONS, rate=OTHER_RATE, seconds=OTHER_SECONDS), _fill(client)
        )
        slow = await redis.slowlog_get(SLOW_LOG_ENTRIES)
    _report(report, seconds, max((entry["duration"] for entry in slow), default=0) / 1000, usual, meanwhile)


def _preorders() -> Iterator[KeyValue]:
    for number in range(PREORDERS):
        order_id = f"waits-{number}"
        yield order_id.encode(), encode_order(order_id, CHANNELS[number % len(CHANNELS)], AWAITED, HOLD_SECONDS)


async def _fill(client: StocktideClient) -> float:
    """Receive the units; the seconds until no order waits."""
    began = time.monotonic()
    await client.send_event(movement_event("stock.received", "awaited", WAREHOUSE, {AWAITED: PREORDERS}))
    await _wait_until_preordered(client, 0)
    return time.monotonic() - began


async def _wait_until_preordered(client: StocktideClient, units: int) -> None:
    """Wait until so many units of the SKU are preordered. Raises TimeoutError."""

    async def is_reached() -> bool:
        stock = await client.stock(AWAITED)
        return stock is not None and stock.preordered == units

    if not await poll_until(is_reached, SETTLED_SECONDS_MAX):
        raise TimeoutError(f"not {units:,} units of {AWAITED} are preordered after {SETTLED_SECONDS_MAX:.0f} s")


def _report(report: Report, seconds: float, call_ms: float, usual: LoadResult, meanwhile: LoadResult) -> None:
    report.add(
        f"{PREORDERS:,} preorders of one SKU filled by one receipt",
        f"{seconds:.1f} s",
        goal=f"<= {FILL_SECONDS_GOAL:.0f} s",
        met=seconds <= FILL_SECONDS_GOAL,
    )
    report.add(
        "the longest call of Redis meanwhile",
        f"{call_ms:.1f} ms",
        goal=f"<= {CALL_MS_GOAL:.0f} ms",
        met=call_ms <= CALL_MS_GOAL,
    )
    ratio = meanwhile.p99_ms / usual.p99_ms
    report.add(
        f"orders of other SKUs meanwhile ({OTHER_RATE:.0f}/s), p99 : usual p99",
        f"{ratio:.2f}  ({meanwhile.p99_ms:.1f} ms : {usual.p99_ms:.1f} ms; p50 {meanwhile.p50_ms:.1f} ms : "
        f"{usual.p50_ms:.1f} ms)",
        goal=f"<= {LATENCY_RATIO_GOAL:.0f}",
        met=ratio <= LATENCY_RATIO_GOAL and not meanwhile.other,
    )
