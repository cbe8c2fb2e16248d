"""The rows of the benchmark: each measures one thing against its yardstick, on the stage's servers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from bench import servers as stages
from bench.latency import PROBE_SKUS, update_latencies
from bench.orders import order_events, send_all
from bench.rates import measure_rate, percentile
from bench.servers import BenchServers
from stocktide.embedded.ports import pick_free_port
from stocktide.streams.contract.events import Malformed, decode_order_event
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.commands import Command, Origin, Receive, make_command
from stocktide.tables.ledger.scripts import key_prefix

WORKER_ORDERS = 120_000
PLAIN_ORDERS = 15_000
LUA_ORDERS = 60_000
# As many commands as the agents hand to one call.
BATCH = 256
HTTP_CONNECTIONS = 64
HTTP_SECONDS = 8.0
PUBLISH_SECONDS = 10.0
SKUS = [f"S{number}" for number in range(1_000)]


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One line of the table: `measured` as text, `met` None where there is no goal in this row."""

    name: str
    measured: str
    goal: str
    met: bool | None


async def orders_through_worker(stage: BenchServers, app_id: str, skus: int) -> float:
    """Orders a second from Kafka to settled and acked, of a backlog that lay there when the worker started."""
    await stages.receive_opening_stock(stage, app_id, SKUS)
    partitions = stage.settings(app_id).partitions
    await send_all(stage.kafka, f"{app_id}-orders", partitions, order_events(WORKER_ORDERS, skus, "b"))
    async with stages.worker(stage, app_id) as address:
        return await measure_rate(lambda: stages.count_settled_events(address), WORKER_ORDERS)


async def orders_through_two_workers(stage: BenchServers, app_id: str, skus: int) -> float:
    """The same with two workers, which share the partitions."""
    await stages.receive_opening_stock(stage, app_id, SKUS)
    partitions = stage.settings(app_id).partitions
    async with stages.worker(stage, app_id, "w1") as first, stages.worker(stage, app_id, "w2") as second:

        async def done() -> int:
            return sum(await asyncio.gather(stages.count_settled_events(first), stages.count_settled_events(second)))

        before = await done()
        sending = asyncio.create_task(
            send_all(stage.kafka, f"{app_id}-orders", partitions, order_events(WORKER_ORDERS, skus, "b"))
        )

        async def since() -> int:
            return await done() - before

        rate = await measure_rate(since, WORKER_ORDERS)
        await sending
        return rate


async def orders_through_plain_agent(stage: BenchServers) -> float:
    """Orders a second of the plain Faust agent on the same servers."""
    app_id, partitions = "plain", 4
    topic = f"{app_id}-orders"
    await ensure_topics(stage.kafka, app_id, partitions, 0)
    await send_all(stage.kafka, topic, partitions, order_events(PLAIN_ORDERS, len(SKUS), "p"))
    environ = {
        "BENCH_KAFKA": stage.kafka,
        "BENCH_REDIS": stage.redis,
        "BENCH_APP": app_id,
        "BENCH_TOPIC": topic,
        "BENCH_PARTITIONS": str(partitions),
        "BENCH_DATA": str(stage.folder / "plain"),
    }
    redis = Redis.from_url(stage.redis)

    async def done() -> int:
        return int(await redis.get(f"{app_id}:done") or 0)

    try:
        async with stages.process(
            "bench.plain_faust", "worker", "--without-web", environ=environ, log=stage.folder / "plain.log"
        ):
            return await measure_rate(done, PLAIN_ORDERS)
    finally:
        await redis.aclose()


async def orders_through_lua(stage: BenchServers, app_id: str, skus: int) -> float:
    """Orders a second of the same batches, with no Kafka and nobody who reads the outbox."""
    redis = Redis.from_url(stage.redis)
    try:
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
    finally:
        await redis.aclose()


async def http_load(port: int, path: str, kind: str, prefix: str, rate: float = 0) -> dict[str, float]:
    """Drive a door from a process of its own; rate, p50_ms, p99_ms, other."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.http_load", "127.0.0.1", str(port), path, kind, prefix),
        *(str(HTTP_SECONDS), str(HTTP_CONNECTIONS), str(rate)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    result: dict[str, float] = json.loads(output)
    return result


async def http_against_empty(stage: BenchServers, app_id: str) -> list[BenchmarkRow]:
    """`POST /v1/orders` against an aiohttp handler that does nothing, both at 64 connections."""
    port = pick_free_port()
    async with stages.process("bench.empty_handler", str(port), environ={}, log=stage.folder / "empty.log"):
        await asyncio.sleep(1.0)
        empty = await http_load(port, "/empty", "empty", "e")
    async with stages.worker(stage, app_id), stages.api(stage, app_id) as api_port:
        await http_load(api_port, "/v1/orders", "order", "warm")
        peak = await http_load(api_port, "/v1/orders", "order", "h")
        half = await http_load(api_port, "/v1/orders", "order", "half", peak["rate"] / 2)
    ratio = peak["rate"] / empty["rate"]
    return [
        BenchmarkRow(
            "POST /v1/orders : empty aiohttp handler, 64 connections",
            f"{ratio:.2f}  ({peak['rate']:.0f}/s, p50 {peak['p50_ms']:.1f} ms, p99 {peak['p99_ms']:.1f} ms : "
            f"{empty['rate']:.0f}/s, p50 {empty['p50_ms']:.1f} ms, p99 {empty['p99_ms']:.1f} ms)"
            + (f"  {peak['other']:.0f} not 201" if peak["other"] else ""),
            ">= 0.50",
            ratio >= 0.5,
        ),
        BenchmarkRow(
            "POST /v1/orders at half the peak, p99 from scheduled time",
            f"{half['p99_ms']:.1f} ms  (p50 {half['p50_ms']:.1f} ms at {half['rate']:.0f}/s)",
            "<= 20 ms",
            half["p99_ms"] <= 20,
        ),
    ]


async def http_through_two(stage: BenchServers, app_id: str) -> tuple[float, float]:
    """Orders a second through one API process, and through two at once, of one worker."""
    await stages.receive_opening_stock(stage, app_id, SKUS)
    async with (
        stages.worker(stage, app_id),
        stages.api(stage, app_id) as first,
        stages.api(stage, app_id) as second,
    ):
        await http_load(first, "/v1/orders", "order", "warm")
        one = await http_load(first, "/v1/orders", "order", "one")
        both = await asyncio.gather(
            http_load(first, "/v1/orders", "order", "left"), http_load(second, "/v1/orders", "order", "right")
        )
    return one["rate"], sum(load["rate"] for load in both)


async def publication(stage: BenchServers, app_id: str, peak: float) -> BenchmarkRow:
    """Event in → channel update out at 20 % of the peak rate."""
    await stages.receive_opening_stock(stage, app_id, [*SKUS, *(f"P{number}" for number in range(PROBE_SKUS))])
    async with stages.worker(stage, app_id):
        await update_latencies(stage.kafka, app_id, peak * 0.2, 2.0, "warm")
        latencies = await update_latencies(stage.kafka, app_id, peak * 0.2, PUBLISH_SECONDS, "run")
    p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
    return BenchmarkRow(
        f"event in → channel update out at 20 % of the peak ({peak * 0.2:.0f}/s)",
        f"p99 {p99:.0f} ms  (p50 {p50:.0f} ms, {len(latencies)} probes)",
        "p99 <= 100 ms",
        p99 <= 100,
    )


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
        Receive(id=f"open-{number}", warehouse=warehouse, at=1, fingerprint="", lines=lines)
        for warehouse in ("SH1", "BJ1", "GZ1")
    ]


async def _bless(redis: Redis, app_id: str) -> None:
    """Stand in for a takeover: this ledger has no journal."""
    server = await redis.info("server")
    replication = await redis.info("replication")
    ids: Any = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": "1"}
    await redis.hset(f"{key_prefix(app_id)}blessed", mapping=ids)
