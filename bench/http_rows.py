"""Orders by HTTP against an empty handler: rates, the CPU time of each process, latencies, the cost of a quiet system.

In: servers. Out: rows of the report.
"""

from __future__ import annotations

import orjson

from bench.cpu import describe_cpu, system_us
from bench.http_load import load_http
from bench.load import LoadResult
from bench.orders import CHANNELS, sku_name
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, receive_opening_stock, running
from bench.service import EMPTY_PATH, service
from stocktide.embedded.ports import pick_free_port
from stocktide.loadtest.client.http import StocktideClient

SKUS = [sku_name(number) for number in range(1_000)]
# The goals of the CPU time per order (µs), by the number of connections.
CPU_GOALS = {64: 160, 256: 130}
RATIO_GOAL = 0.30
LONE_P50_MS_GOAL, HALF_P99_MS_GOAL = 3.0, 15.0
QUIET_RATE, QUIET_SECONDS, QUIET_CORES_GOAL = 12.0, 20.0, 0.15
# One kind of policy for each of the five channels.
POLICIES = (
    {"share": 1.0},
    {"safety_threshold": 50, "below_threshold": "suspend"},
    {"buffer": 10},
    {"share": 0.5, "safety_threshold": 20, "below_threshold": "preorder", "preorder_cap": 100},
    {"max_listed": 100},
)


async def measure_http(servers: BenchServers, report: Report) -> None:
    """`POST /v1/orders` of one API process."""
    report.log("POST /v1/orders …")
    await receive_opening_stock(servers, "http", SKUS)
    port = pick_free_port()
    async with running(service(port, servers.folder / "empty.log", "empty")) as handler:
        pids = {"handler": handler.pid}
        empty = {count: await load_http(port, "e", count, path=EMPTY_PATH, pids=pids) for count in CPU_GOALS}
    worker, api = (BenchedProcess(servers, "http", kind) for kind in ("worker", "api"))
    async with running(worker), running(api):
        pids = {"API": api.pid, "worker": worker.pid, **servers.pids}
        await set_policies(api)
        quiet = await load_http(api.port, "quiet", 1, rate=QUIET_RATE, seconds=QUIET_SECONDS, pids=pids)
        await load_http(api.port, "warm", 64)
        found = {count: await load_http(api.port, f"h{count}", count, pids=pids) for count in CPU_GOALS}
        lone = await load_http(api.port, "lone", 1)
        best = max(CPU_GOALS, key=lambda count: found[count].rate / empty[count].rate)
        half = await load_http(api.port, "half", best, rate=max(each.rate for each in found.values()) / 2)
    _report_rates(report, found, empty, best)
    _report_latencies(report, lone, half)
    cores = system_us(quiet.cpu_us) * quiet.rate / 1e6
    report.add(
        f"CPU of the whole system at {QUIET_RATE:.0f} orders/s",
        f"{cores:.2f} of a core, per order {describe_cpu(quiet.cpu_us)}",
        goal=f"<= {QUIET_CORES_GOAL:.2f}",
        met=cores <= QUIET_CORES_GOAL,
    )


async def set_policies(api: BenchedProcess) -> None:
    """Give each channel its policy."""
    async with StocktideClient(api.url, 1) as client:
        for channel, policy in zip(CHANNELS, POLICIES, strict=True):
            await client.call("PUT", f"/v1/policies/{channel}", orjson.dumps(policy))


def _report_rates(report: Report, found: dict[int, LoadResult], empty: dict[int, LoadResult], best: int) -> None:
    ours, theirs = found[best], empty[best]
    ratio = ours.rate / theirs.rate
    report.add(
        f"POST /v1/orders : empty aiohttp handler, {best} connections (the better of {', '.join(map(str, found))})",
        f"{ratio:.2f}  ({_describe(ours)} : {_describe(theirs)})",
        goal=f">= {RATIO_GOAL:.2f}",
        met=ratio >= RATIO_GOAL,
    )
    for count, goal in CPU_GOALS.items():
        us = system_us(found[count].cpu_us)
        report.add(
            f"CPU per order over HTTP, {count} connections",
            f"{describe_cpu(found[count].cpu_us)} at {_describe(found[count])}",
            goal=f"<= {goal} µs",
            met=us <= goal,
            figures=found[count].cpu_us,
        )
        report.add(
            f"CPU per request of the empty handler, {count} connections",
            f"{describe_cpu(empty[count].cpu_us)} at {_describe(empty[count])}",
            figures=empty[count].cpu_us,
        )


def _report_latencies(report: Report, lone: LoadResult, half: LoadResult) -> None:
    report.add(
        "POST /v1/orders, a single caller, p50",
        f"{lone.p50_ms:.1f} ms  (p99 {lone.p99_ms:.1f} ms)",
        goal=f"<= {LONE_P50_MS_GOAL:.0f} ms",
        met=lone.p50_ms <= LONE_P50_MS_GOAL,
    )
    report.add(
        "POST /v1/orders at half the peak, p99 from scheduled time",
        f"{half.p99_ms:.1f} ms  (p50 {half.p50_ms:.1f} ms at {half.rate:.0f}/s)",
        goal=f"<= {HALF_P99_MS_GOAL:.0f} ms",
        met=half.p99_ms <= HALF_P99_MS_GOAL,
    )


def _describe(load: LoadResult) -> str:
    other = f", {load.other:.0f} not 201" if load.other else ""
    return f"{load.rate:,.0f}/s, p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms{other}"
