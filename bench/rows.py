"""The rows of the benchmark: each measures one thing against its yardstick."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis

from bench.http_load import ORDERS_PATH
from bench.latency import PROBE_SKUS, measure_update_latencies
from bench.orders import WAREHOUSES, order_events, send_all, sku_name
from bench.rates import LoadResult, measure_rate, percentile
from bench.report import BenchmarkRow
from bench.servers import BenchServers, receive_opening_stock, run_module, run_stocktide
from stocktide.embedded.ports import is_port_free, pick_free_port
from stocktide.retry import poll_until
from stocktide.streams.contract.events import Malformed, decode_order_event
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.commands import Command, Origin, Receive, make_command
from stocktide.tables.ledger.scripts import key_prefix

WORKER_ORDERS = 120_000
PLAIN_ORDERS = 15_000
LUA_ORDERS = 60_000
# As many commands as the agents submit in one call.
BATCH = 256
HTTP_CONNECTIONS = 64
HTTP_SECONDS = 8.0
PUBLISH_SECONDS = 10.0
SKUS = [sku_name(number) for number in range(1_000)]
START_SECONDS_GOAL = 10.0
START_SECONDS_MAX = 120.0


async def measure_worker(servers: BenchServers, app_id: str, skus: int) -> float:
    """Orders a second from Kafka to settled and acked, of a backlog that exists before the worker starts."""
    await receive_opening_stock(servers, app_id, SKUS)
    await _send_orders(servers, app_id, skus)
    async with run_stocktide(servers, app_id, "worker") as worker:
        return await measure_rate(worker.count_settled_events, WORKER_ORDERS)


async def measure_two_workers(servers: BenchServers, app_id: str, skus: int) -> float:
    """The same with two workers, which share the partitions."""
    await receive_opening_stock(servers, app_id, SKUS)
    async with (
        run_stocktide(servers, app_id, "worker", "w1") as first,
        run_stocktide(servers, app_id, "worker", "w2") as second,
    ):

        async def count() -> int:
            return sum(await asyncio.gather(first.count_settled_events(), second.count_settled_events()))

        before = await count()
        sending = asyncio.create_task(_send_orders(servers, app_id, skus))

        async def count_since() -> int:
            return await count() - before

        rate = await measure_rate(count_since, WORKER_ORDERS)
        await sending
        return rate


async def _send_orders(servers: BenchServers, app_id: str, skus: int) -> None:
    partitions = servers.settings(app_id).partitions
    await send_all(servers.kafka.address, f"{app_id}-orders", partitions, order_events(WORKER_ORDERS, skus, "b"))


async def measure_plain_faust(servers: BenchServers) -> float:
    """Orders a second of the plain Faust agent on the same servers."""
    app_id, partitions, kafka = "plain", 4, servers.kafka.address
    topic = f"{app_id}-orders"
    await ensure_topics(kafka, app_id, partitions, 0)
    await send_all(kafka, topic, partitions, order_events(PLAIN_ORDERS, len(SKUS), "p"))
    environ = {
        "BENCH_KAFKA": kafka,
        "BENCH_REDIS": servers.valkey.url,
        "BENCH_APP": app_id,
        "BENCH_TOPIC": topic,
        "BENCH_PARTITIONS": str(partitions),
        "BENCH_DATA": str(servers.folder / "plain"),
    }
    command = ("bench.plain_faust", "worker", "--without-web")
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        run_module(*command, log=servers.folder / "plain.log", environ=environ),
    ):

        async def count() -> int:
            return int(await redis.get(f"{app_id}:done") or 0)

        return await measure_rate(count, PLAIN_ORDERS)


async def measure_lua(servers: BenchServers, app_id: str, skus: int) -> float:
    """Orders a second of the same batches with no Kafka and no relay."""
    async with Redis.from_url(servers.valkey.url) as redis:
        await _bless(redis, app_id)
        ledger = Ledger(redis, app_id, LedgerLimits(outbox_max=sys.maxsize))
        for start in range(0, len(SKUS), 500):
            await ledger.apply(_receive(SKUS[start : start + 500], start), token="open")
        batches = _batches(LUA_ORDERS, skus)
        outbox = f"{key_prefix(app_id)}outbox"
        started = time.perf_counter()
        for number, batch in enumerate(batches):
            await ledger.apply(batch, token="0123456789abcdef")
            if number % 16 == 0:
                await redis.delete(outbox)
        return LUA_ORDERS / (time.perf_counter() - started)


async def load_http(port: int, prefix: str, rate: float = 0, path: str = ORDERS_PATH) -> LoadResult:
    """Load an endpoint from a process of its own."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.http_load", str(port), path, prefix),
        *(str(HTTP_SECONDS), str(HTTP_CONNECTIONS), str(rate)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return LoadResult(**orjson.loads(output))


async def measure_http(servers: BenchServers, app_id: str) -> list[BenchmarkRow]:
    """`POST /v1/orders` against an aiohttp handler that does nothing, both at 64 connections."""
    await receive_opening_stock(servers, app_id, SKUS)
    port = pick_free_port()

    async def listens() -> bool:
        return not is_port_free(port)

    async with run_module("bench.empty_handler", str(port), log=servers.folder / "empty.log"):
        await poll_until(listens, START_SECONDS_MAX)
        empty = await load_http(port, "e", path="/empty")
    async with run_stocktide(servers, app_id, "worker"), run_stocktide(servers, app_id, "api") as api:
        await load_http(api.port, "warm")
        peak = await load_http(api.port, "h")
        half = await load_http(api.port, "half", peak.rate / 2)
    ratio = peak.rate / empty.rate
    return [
        BenchmarkRow(
            "POST /v1/orders : empty aiohttp handler, 64 connections",
            f"{ratio:.2f}  ({peak.rate:.0f}/s, p50 {peak.p50_ms:.1f} ms, p99 {peak.p99_ms:.1f} ms : "
            f"{empty.rate:.0f}/s, p50 {empty.p50_ms:.1f} ms, p99 {empty.p99_ms:.1f} ms)"
            + (f"  {peak.other:.0f} not 201" if peak.other else ""),
            ">= 0.50",
            ratio >= 0.5,
        ),
        BenchmarkRow(
            "POST /v1/orders at half the peak, p99 from scheduled time",
            f"{half.p99_ms:.1f} ms  (p50 {half.p50_ms:.1f} ms at {half.rate:.0f}/s)",
            "<= 20 ms",
            half.p99_ms <= 20,
        ),
    ]


async def measure_two_apis(servers: BenchServers, app_id: str) -> tuple[float, float]:
    """Orders a second through one API process, and through two at the same time, with one worker."""
    await receive_opening_stock(servers, app_id, SKUS)
    async with (
        run_stocktide(servers, app_id, "worker"),
        run_stocktide(servers, app_id, "api") as first,
        run_stocktide(servers, app_id, "api") as second,
    ):
        await load_http(first.port, "warm")
        one = await load_http(first.port, "one")
        both = await asyncio.gather(load_http(first.port, "left"), load_http(second.port, "right"))
    return one.rate, sum(load.rate for load in both)


async def measure_publication(servers: BenchServers, app_id: str, peak: float) -> BenchmarkRow:
    """Event in → channel update out at 20 % of the peak rate."""
    await receive_opening_stock(servers, app_id, [*SKUS, *(f"P{number}" for number in range(PROBE_SKUS))])
    kafka, rate = servers.kafka.address, peak * 0.2
    async with run_stocktide(servers, app_id, "worker"):
        await measure_update_latencies(kafka, app_id, rate, 2.0, "warm")
        latencies = await measure_update_latencies(kafka, app_id, rate, PUBLISH_SECONDS, "run")
    p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
    return BenchmarkRow(
        f"event in → channel update out at 20 % of the peak ({rate:.0f}/s)",
        f"p99 {p99:.0f} ms  (p50 {p50:.0f} ms, {len(latencies)} probes)",
        "p99 <= 100 ms",
        p99 <= 100,
    )


async def measure_start() -> BenchmarkRow:
    """`stocktide up` on an empty folder, until its ready file exists."""
    with tempfile.TemporaryDirectory(prefix="stocktide-start-") as folder:
        ready = Path(folder) / "ready.json"

        async def is_ready() -> bool:
            return ready.exists()

        arguments = ("stocktide", "up", "--data", f"{folder}/data", "--port", "0", "--ready-file", str(ready))
        began = time.monotonic()
        async with run_module(*arguments, log=Path(folder) / "up.log"):
            await poll_until(is_ready, START_SECONDS_MAX)
            seconds = time.monotonic() - began
    name = "`stocktide up`, start to ready (jars cached)"
    return BenchmarkRow(name, f"{seconds:.1f} s", "<= 10 s", seconds <= START_SECONDS_GOAL)


def _batches(count: int, skus: int) -> list[list[Command]]:
    commands: list[Command] = []
    for number, (_, raw) in enumerate(order_events(count, skus, "l")):
        event = decode_order_event(raw)
        assert not isinstance(event, Malformed)
        commands.append(make_command(event, Origin("orders", 0, number, raw.decode())))
    return [commands[start : start + BATCH] for start in range(0, len(commands), BATCH)]


def _receive(skus: list[str], number: int) -> list[Command]:
    lines = tuple((sku, 1_000_000) for sku in skus)
    return [
        Receive(id=f"open-{number}", warehouse=warehouse, at=1, fingerprint="", lines=lines) for warehouse in WAREHOUSES
    ]


async def _bless(redis: Redis, app_id: str) -> None:
    """Replace a takeover: this ledger has no journal."""
    server = await redis.info("server")
    replication = await redis.info("replication")
    ids: Any = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": "1"}
    await redis.hset(f"{key_prefix(app_id)}blessed", mapping=ids)
