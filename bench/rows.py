"""The parts of the benchmark: each measures something against its yardstick, and adds its rows."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from bench.cpu import CpuMeter, describe_cpu
from bench.http_load import load_http
from bench.load import measure_rate, pace, percentile
from bench.orders import UNITS_EACH, WAREHOUSES, encode_order, order_events, send_all, sku_name
from bench.plain_faust import PARTITIONS, plain_faust
from bench.raw_throughput import measure_raw_throughput
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, ModuleProcess, receive_opening_stock, running
from bench.strategies import OneLuaCall
from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.client.topics import TopicReader, decoding_handler
from stocktide.retry import poll_until
from stocktide.streams.contract.events import Malformed, decode_order_event
from stocktide.streams.kafka.admin import ensure_topics
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, Origin, Receive
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import make_command
from stocktide.tables.ledger.scripts import key_prefix

WORKER_ORDERS = 120_000
PLAIN_ORDERS = 15_000
LUA_ORDERS = 60_000
# Per call that opens the stock: some 10 ms.
OPENING_LINES = 500
# As many commands as the agents submit in one call.
BATCH = 256
SCALING_CONNECTIONS = 64
PUBLISH_SECONDS = 10.0
# So many that a probe's SKU is used again only long after its last update.
PROBE_SKUS = 400
PROBES_A_SECOND = 100
PROBE_SECONDS_MAX = 10.0
SKUS = [sku_name(number) for number in range(1_000)]
START_SECONDS_GOAL = 5.0
APPLY_US_GOAL, JOURNAL_BYTES_GOAL = 12, 250
UPDATE_MS_GOAL = 80


async def measure_workers(servers: BenchServers, report: Report) -> float:
    """The worker against its yardsticks; its rate (orders/s) over 1,000 SKUs, the peak of the other parts."""
    report.log("orders through the worker, over 1,000 SKUs …")
    spread, cpu = await _measure_worker(servers, "spread", len(SKUS))
    report.log(f"  {spread:.0f}/s; on one hot SKU …")
    hot, _ = await _measure_worker(servers, "hot", 1)
    report.log(f"  {hot:.0f}/s; the plain Faust agent …")
    plain = await _measure_plain_faust(servers, "plain")
    report.log(f"  {plain:.0f}/s; the same Lua batches with no Kafka …")
    lua, apply_us, journal_bytes = await _measure_lua(servers, "lua", len(SKUS))
    report.add("CPU per order over Kafka", describe_cpu(cpu), figures=cpu)
    report.add(
        f"`apply.lua` alone, {BATCH} orders per call",
        f"{apply_us:.1f} µs and {journal_bytes:.0f} bytes of journal per order",
        goal=f"<= {APPLY_US_GOAL} µs, <= {JOURNAL_BYTES_GOAL} bytes",
        met=apply_us <= APPLY_US_GOAL and journal_bytes <= JOURNAL_BYTES_GOAL,
    )
    report.ratio("worker : plain Faust agent", spread, plain, 10)
    report.ratio("worker : the same Lua batches with no Kafka", spread, lua, 0.6)
    report.ratio("one hot SKU : 1,000 SKUs", hot, spread, 1)
    return spread


async def measure_floor(servers: BenchServers, report: Report, peak: float | None) -> None:
    """The cost of moving the same bytes only."""
    report.log("the same bytes through Redis and Kafka, without decisions …")
    rate, pieces = await measure_raw_throughput(servers)
    beside = f"; the worker reaches {peak / rate:.2f} of it" if peak else ""
    parts = ", ".join(f"{name} {each:.0f}" for name, each in pieces.items())
    report.add("an order's bytes through Redis and Kafka, nothing decided", f"{rate:.0f}/s{beside}  (µs each: {parts})")


async def measure_scaling(servers: BenchServers, report: Report, peak: float | None) -> None:
    """How the rate grows with a second process, on the cores of this machine."""
    report.log("two workers; one and two API processes …")
    two = await _measure_two_workers(servers, "two", len(SKUS))
    if peak is None:
        report.add("two workers : one", f"{two:.0f}/s")
    else:
        report.ratio("two workers : one", two, peak)
    one_api, two_apis = await _measure_two_apis(servers, "apis")
    report.ratio("two API processes : one", two_apis, one_api)


async def measure_publication(servers: BenchServers, report: Report, peak: float) -> None:
    """Event in → channel update out at 20 % of the peak rate."""
    report.log("event in → channel update out …")
    app_id = "publish"
    await receive_opening_stock(servers, app_id, [*SKUS, *(f"P{number}" for number in range(PROBE_SKUS))])
    kafka, rate = servers.kafka.address, peak * 0.2
    async with running(BenchedProcess(servers, app_id, "worker")):
        await _measure_update_latencies(kafka, app_id, rate, 2.0, "warm")
        latencies = await _measure_update_latencies(kafka, app_id, rate, PUBLISH_SECONDS, "run")
    p50, p99 = percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000
    report.add(
        f"event in → channel update out at 20 % of the peak ({rate:.0f}/s)",
        f"p99 {p99:.0f} ms  (p50 {p50:.0f} ms, {len(latencies)} probes)",
        goal=f"p99 <= {UPDATE_MS_GOAL} ms",
        met=p99 <= UPDATE_MS_GOAL,
    )


async def _measure_update_latencies(kafka: str, app_id: str, rate: float, seconds: float, run: str) -> list[float]:
    """Seconds from producing an order to reading its update, under a load of `rate` orders a second.

    A probe is one order of a SKU without other orders; its latency ends when an update of that SKU is read from
    `channel-stock`.
    """
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
            await _send_load_and_probes(producer, f"{app_id}-orders", rate, seconds, run, sent_at)
            await poll_until(all_read, PROBE_SECONDS_MAX)
    finally:
        await reader.stop()
    if sent_at:
        raise RuntimeError(f"{len(sent_at)} probes were never published")
    return latencies


async def _send_load_and_probes(
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


async def measure_start(report: Report) -> None:
    """`stocktide up` on an empty folder, until its ready file exists."""
    report.log("a start on an empty folder …")
    with tempfile.TemporaryDirectory(prefix="stocktide-start-") as folder:
        ready = Path(folder) / "ready.json"
        options = ("--data", f"{folder}/data", "--port", "0", "--ready-file", str(ready))
        system = ModuleProcess("stocktide", "up", *options, log=Path(folder) / "up.log", ready=ready.exists)
        try:
            seconds = await system.start()
        finally:
            await system.stop()
    name = "`stocktide up`, start to ready (jars cached)"
    report.add(name, f"{seconds:.1f} s", goal=f"<= {START_SECONDS_GOAL:.0f} s", met=seconds <= START_SECONDS_GOAL)


async def _measure_worker(servers: BenchServers, app_id: str, skus: int) -> tuple[float, dict[str, float]]:
    """Orders a second from Kafka to settled and acked, of a backlog that exists before the worker starts; and the CPU
    time per order of each process, µs."""
    await receive_opening_stock(servers, app_id, SKUS)
    await _send_orders(servers, app_id, skus)
    async with running(BenchedProcess(servers, app_id, "worker")) as worker:
        cpu = CpuMeter({"worker": worker.pid, **servers.pids})
        return await measure_rate(worker.count_settled_events, WORKER_ORDERS, cpu), cpu.us_each


async def _measure_two_workers(servers: BenchServers, app_id: str, skus: int) -> float:
    """The same with two workers, which share the partitions."""
    await receive_opening_stock(servers, app_id, SKUS)
    first, second = (BenchedProcess(servers, app_id, "worker", name) for name in ("w1", "w2"))
    async with running(first), running(second):

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


async def _measure_plain_faust(servers: BenchServers, app_id: str) -> float:
    """Orders a second of the plain Faust agent on the same servers."""
    kafka = servers.kafka.address
    await ensure_topics(kafka, app_id, PARTITIONS, 0)
    await send_all(kafka, f"{app_id}-orders", PARTITIONS, order_events(PLAIN_ORDERS, len(SKUS), "p"))
    stock = OneLuaCall(servers.valkey.url)
    await stock.open(dict.fromkeys(SKUS, UNITS_EACH))
    await stock.close()
    async with (
        Redis.from_url(servers.valkey.url) as redis,
        running(plain_faust(servers, app_id, servers.folder / "plain.log")),
    ):

        async def count() -> int:
            return int(await redis.get(f"{app_id}:done") or 0)

        return await measure_rate(count, PLAIN_ORDERS)


async def _measure_lua(servers: BenchServers, app_id: str, skus: int) -> tuple[float, float, float]:
    """Orders a second of the same batches with no Kafka and no relay; µs in the script and bytes of payload per
    order."""
    async with Redis.from_url(servers.valkey.url) as redis:
        await _bless(redis, app_id)
        ledger = Ledger(redis, app_id, LedgerLimits(outbox_max=sys.maxsize))
        for start in range(0, len(SKUS), OPENING_LINES):
            await ledger.apply(_receive(SKUS[start : start + OPENING_LINES], start), token="open")
        batches = _batches(LUA_ORDERS, skus)
        outbox = f"{key_prefix(app_id)}outbox"
        await redis.config_resetstat()
        started = time.perf_counter()
        for number, batch in enumerate(batches):
            if number % 16 == 0:
                await redis.delete(outbox)
            await ledger.apply(batch, token="0123456789abcdef")
        seconds = time.perf_counter() - started
        calls: dict[str, Any] = (await redis.info("commandstats"))["cmdstat_evalsha"]
        kept: Any = await redis.xrange(outbox)
        size = sum(len(entry[b"payload"]) for _, entry in kept)
        return LUA_ORDERS / seconds, calls["usec"] / LUA_ORDERS, size / sum(map(len, batches[-len(kept) :]))


async def _measure_two_apis(servers: BenchServers, app_id: str) -> tuple[float, float]:
    """Orders a second through one API process, and through two at the same time, with one worker."""
    await receive_opening_stock(servers, app_id, SKUS)
    worker, first, second = (BenchedProcess(servers, app_id, kind) for kind in ("worker", "api", "api"))
    async with running(worker), running(first), running(second):
        await load_http(first.port, "warm", SCALING_CONNECTIONS)
        one = await load_http(first.port, "one", SCALING_CONNECTIONS)
        both = await asyncio.gather(
            load_http(first.port, "left", SCALING_CONNECTIONS), load_http(second.port, "right", SCALING_CONNECTIONS)
        )
    return one.rate, sum(load.rate for load in both)


def _batches(count: int, skus: int) -> list[list[Command]]:
    commands: list[Command] = []
    for number, (_, raw) in enumerate(order_events(count, skus, "l")):
        event = decode_order_event(raw)
        assert not isinstance(event, Malformed)
        commands.append(make_command(event, Origin("orders", 0, number, raw.decode())))
    return [commands[start : start + BATCH] for start in range(0, len(commands), BATCH)]


def _receive(skus: list[str], number: int) -> list[Command]:
    lines = tuple((sku, UNITS_EACH) for sku in skus)
    return [
        Receive(id=f"open-{number}", warehouse=warehouse, at=1, fingerprint="", lines=lines) for warehouse in WAREHOUSES
    ]


async def _bless(redis: Redis, app_id: str) -> None:
    """Replace a takeover: this ledger has no journal."""
    server, replication = await redis.info("server"), await redis.info("replication")
    ids: Any = {"run_id": server["run_id"], "replid": replication["master_replid"], "term": "1"}
    await redis.hset(f"{key_prefix(app_id)}blessed", mapping=ids)
