"""`make bench`: measure every row in one run, print the table with the goals beside it, write `build/bench.json`.

`python -m bench [--only worker,floor,…]` measures a part. What takes a large shop (`make bench-size`) is not measured
here again: its rows are those of its last run, and say of what size and when.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from bench import crowd, rows
from bench.raw_throughput import measure_raw_throughput
from bench.rows import BenchmarkRow
from bench.servers import BenchServers, receive_opening_stock, servers

PARTS = ("worker", "floor", "scaling", "http", "publication", "subscribers", "start", "size")
# Where none was measured.
PEAK = 10_000.0
# Where reports go, and where those of `make bench-size` are looked for.
BUILD = Path("build")
# Its rows that have a goal.
LARGE_SHOP_GOALS = (
    ("orders over 1,000,000 SKUs : over 1,000 of them", ">= 0.80"),
    ("Redis, memory per SKU", "<= 1 KB"),
    ("worker, memory per SKU", "<= 2 KB"),
    ("worker restart, 1,000,000 SKUs", "<= 60 s"),
    ("redo, 1,000,000 SKUs, from Redis's first answer to blessed", "<= 10 s"),
)


async def worker_rows(stage: BenchServers, console: Console) -> tuple[list[BenchmarkRow], float]:
    """The worker against its yardsticks, and its rate."""
    console.print("orders through the worker, over 1,000 SKUs …")
    spread = await rows.orders_through_worker(stage, "spread", 1_000)
    console.print(f"  {spread:.0f}/s; on one hot SKU …")
    hot = await rows.orders_through_worker(stage, "hot", 1)
    console.print(f"  {hot:.0f}/s; the plain Faust agent …")
    plain = await rows.orders_through_plain_agent(stage)
    console.print(f"  {plain:.0f}/s; the same Lua batches with no Kafka …")
    lua = await rows.orders_through_lua(stage, "lua", 1_000)
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


async def floor_rows(stage: BenchServers, console: Console, peak: float | None) -> list[BenchmarkRow]:
    """What the same bytes cost with no thought."""
    console.print("the same bytes through Redis and Kafka, with no thought …")
    rate, pieces = await measure_raw_throughput(stage)
    beside = "" if peak is None else f"; the worker reaches {peak / rate:.2f} of it"
    parts = ", ".join(f"{name} {each:.0f}" for name, each in pieces.items())
    return [
        BenchmarkRow("the floor: an order's bytes, no thought", f"{rate:.0f}/s{beside}  (µs alone: {parts})", "", None)
    ]


async def scaling_rows(stage: BenchServers, console: Console, peak: float | None) -> list[BenchmarkRow]:
    """How the rate grows with a second process, on this machine's cores."""
    console.print("two workers; one and two API processes …")
    two = await rows.orders_through_two_workers(stage, "two", 1_000)
    beside = f"{two:.0f}/s" if peak is None else f"{two / peak:.2f}  ({two:.0f}/s : {peak:.0f}/s)"
    one_api, two_apis = await rows.http_through_two(stage, "apis")
    return [
        BenchmarkRow("two workers : one", beside, "", None),
        BenchmarkRow(
            "two API processes : one", f"{two_apis / one_api:.2f}  ({two_apis:.0f}/s : {one_api:.0f}/s)", "", None
        ),
    ]


def size_rows() -> list[BenchmarkRow]:
    """The rows with a goal of the newest run of `make bench-size`."""
    reports = sorted(BUILD.glob("size-*.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        return [
            BenchmarkRow(name, "not measured here yet: make bench-size", goal, None) for name, goal in LARGE_SHOP_GOALS
        ]
    report = reports[-1]
    found = orjson.loads(report.read_bytes())
    day = datetime.fromtimestamp(report.stat().st_mtime, UTC).date()
    return [
        BenchmarkRow(
            f"{row['name']} [{found['command'].removeprefix('python -m ')}, {day}]",
            row["measured"],
            row["goal"],
            row["met"],
        )
        for row in found["rows"]
        if row["met"] is not None
    ]


async def measure(parts: list[str], console: Console) -> list[BenchmarkRow]:
    """Every row of `parts`, on servers of their own."""
    found: list[BenchmarkRow] = []
    peak: float | None = None
    with tempfile.TemporaryDirectory(prefix="stocktide-bench-") as folder:
        async with servers(Path(folder)) as stage:
            if "worker" in parts:
                some, peak = await worker_rows(stage, console)
                found += some
            if "floor" in parts:
                found += await floor_rows(stage, console, peak)
            if "scaling" in parts:
                found += await scaling_rows(stage, console, peak)
            if "http" in parts:
                console.print("POST /v1/orders …")
                await receive_opening_stock(stage, "http", rows.SKUS)
                found += await rows.http_against_empty(stage, "http")
            if "publication" in parts:
                console.print("event in → channel update out …")
                found.append(await rows.publication(stage, "publish", peak or PEAK))
            if "subscribers" in parts:
                console.print(f"{crowd.SUBSCRIBERS:,} subscribers …")
                found.append(await crowd.subscribers(stage, "crowd"))
    if "start" in parts:
        console.print("a start on an empty folder …")
        found.append(await crowd.start())
    return [*found, *(size_rows() if "size" in parts else [])]


@click.command()
@click.option("--only", default=",".join(PARTS), help="comma-separated parts: " + ", ".join(PARTS))
def main(only: str) -> None:
    """Measure, print, write."""
    console = Console()
    found = asyncio.run(measure(only.split(","), console))
    table = Table("what", "measured", "goal", "")
    for row in found:
        table.add_row(row.name, row.measured, row.goal, {True: "met", False: "missed", None: ""}[row.met])
    console.print(table)
    BUILD.mkdir(exist_ok=True)
    # orjson writes dataclasses as they are.
    (BUILD / "bench.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
