"""`make bench`: measures every row in one run, prints the table with the goals, writes `build/bench.json`.

`python -m bench [--only worker,floor,…]` measures a part. Rows that need a large shop are copied from the last run of
`make bench-size`, with its size and date.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.console import Console

from bench import rows
from bench.raw_throughput import measure_raw_throughput
from bench.report import BUILD, BenchmarkRow, make_table, write_json
from bench.servers import BenchServers, run_servers
from bench.subscribers import SUBSCRIBERS, measure_subscribers

PARTS = ("worker", "floor", "scaling", "http", "publication", "subscribers", "start", "size")
# Assumed if the part `worker` is not measured.
PEAK = 10_000.0
# The rows of `make bench-size` that have a goal.
LARGE_SHOP_GOALS = (
    ("orders over 1,000,000 SKUs : over 1,000 of them", ">= 0.80"),
    ("Redis, memory per SKU", "<= 1 KB"),
    ("worker, memory per SKU", "<= 2 KB"),
    ("worker restart, 1,000,000 SKUs", "<= 60 s"),
    ("redo, 1,000,000 SKUs, from Redis's first answer to blessed", "<= 10 s"),
)


async def worker_rows(servers: BenchServers, console: Console) -> tuple[list[BenchmarkRow], float]:
    """The worker against its yardsticks, and its rate."""
    console.print("orders through the worker, over 1,000 SKUs …")
    spread = await rows.measure_worker(servers, "spread", 1_000)
    console.print(f"  {spread:.0f}/s; on one hot SKU …")
    hot = await rows.measure_worker(servers, "hot", 1)
    console.print(f"  {hot:.0f}/s; the plain Faust agent …")
    plain = await rows.measure_plain_faust(servers)
    console.print(f"  {plain:.0f}/s; the same Lua batches with no Kafka …")
    lua = await rows.measure_lua(servers, "lua", 1_000)
    console.print(f"  {lua:.0f}/s")
    return [
        BenchmarkRow(
            "worker : plain Faust agent",
            f"{spread / plain:.1f}  ({spread:.0f}/s : {plain:.0f}/s)",
            ">= 15",
            spread >= 15 * plain,
        ),
        BenchmarkRow(
            "worker : the same Lua batches with no Kafka",
            f"{spread / lua:.2f}  ({spread:.0f}/s : {lua:.0f}/s)",
            ">= 0.60",
            spread >= 0.6 * lua,
        ),
        BenchmarkRow(
            "one hot SKU : 1,000 SKUs",
            f"{hot / spread:.2f}  ({hot:.0f}/s : {spread:.0f}/s)",
            ">= 1.00",
            hot >= spread,
        ),
    ], spread


async def raw_throughput_row(servers: BenchServers, console: Console, peak: float | None) -> BenchmarkRow:
    """The cost of moving the same bytes only."""
    console.print("the same bytes through Redis and Kafka, without decisions …")
    rate, pieces = await measure_raw_throughput(servers)
    beside = "" if peak is None else f"; the worker reaches {peak / rate:.2f} of it"
    parts = ", ".join(f"{name} {each:.0f}" for name, each in pieces.items())
    return BenchmarkRow(
        "an order's bytes through Redis and Kafka, nothing decided", f"{rate:.0f}/s{beside}  (µs each: {parts})"
    )


async def scaling_rows(servers: BenchServers, console: Console, peak: float | None) -> list[BenchmarkRow]:
    """How the rate grows with a second process, on the cores of this machine."""
    console.print("two workers; one and two API processes …")
    two = await rows.measure_two_workers(servers, "two", 1_000)
    ratio = f"{two:.0f}/s" if peak is None else f"{two / peak:.2f}  ({two:.0f}/s : {peak:.0f}/s)"
    one_api, two_apis = await rows.measure_two_apis(servers, "apis")
    return [
        BenchmarkRow("two workers : one", ratio),
        BenchmarkRow("two API processes : one", f"{two_apis / one_api:.2f}  ({two_apis:.0f}/s : {one_api:.0f}/s)"),
    ]


def size_rows() -> list[BenchmarkRow]:
    """The rows with a goal of the newest run of `make bench-size`."""
    reports = sorted(BUILD.glob("size-*.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        return [BenchmarkRow(name, "not measured here yet: make bench-size", goal) for name, goal in LARGE_SHOP_GOALS]
    found = orjson.loads(reports[-1].read_bytes())
    source = f"{found['command'].removeprefix('python -m ')}, "
    source += f"{datetime.fromtimestamp(reports[-1].stat().st_mtime, UTC).date()}"
    return [
        BenchmarkRow(f"{row['name']} [{source}]", row["measured"], row["goal"], row["met"])
        for row in found["rows"]
        if row["met"] is not None
    ]


async def measure(parts: list[str], console: Console) -> list[BenchmarkRow]:
    """Every row of `parts`, on servers of their own."""
    found: list[BenchmarkRow] = []
    peak: float | None = None
    with tempfile.TemporaryDirectory(prefix="stocktide-bench-") as folder:
        async with run_servers(Path(folder)) as servers:
            if "worker" in parts:
                found, peak = await worker_rows(servers, console)
            if "floor" in parts:
                found.append(await raw_throughput_row(servers, console, peak))
            if "scaling" in parts:
                found += await scaling_rows(servers, console, peak)
            if "http" in parts:
                console.print("POST /v1/orders …")
                found += await rows.measure_http(servers, "http")
            if "publication" in parts:
                console.print("event in → channel update out …")
                found.append(await rows.measure_publication(servers, "publish", peak or PEAK))
            if "subscribers" in parts:
                console.print(f"{SUBSCRIBERS:,} subscribers …")
                found.append(await measure_subscribers(servers, "crowd"))
    if "start" in parts:
        console.print("a start on an empty folder …")
        found.append(await rows.measure_start())
    return [*found, *(size_rows() if "size" in parts else [])]


@click.command()
@click.option("--only", default=",".join(PARTS), help="comma-separated parts: " + ", ".join(PARTS))
def main(only: str) -> None:
    """Measure, print, write."""
    console = Console()
    found = asyncio.run(measure(only.split(","), console))
    console.print(make_table(found))
    write_json("bench", found)


if __name__ == "__main__":
    main()
