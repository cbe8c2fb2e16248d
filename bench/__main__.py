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

from bench import http_rows, rows
from bench.report import BUILD, BenchmarkRow, Report, make_console, write_json
from bench.servers import run_servers
from bench.subscribers import measure_subscribers
from bench.waiting import measure_waiting

PARTS = ("worker", "floor", "scaling", "http", "publication", "waiting", "subscribers", "start", "size")
# Assumed if the part `worker` is not measured.
PEAK = 10_000.0
# If the output goes to a file.
TABLE_WIDTH = 200
# The rows of `make bench-size` that have a goal.
LARGE_SHOP_GOALS = (
    ("orders over 1,000,000 SKUs : over 1,000 of them", ">= 0.80"),
    ("Redis, memory per SKU", "<= 1 KB"),
    ("worker, memory per SKU", "<= 2 KB"),
    ("API, start to ready", "<= 20 s, <= 1.2 KB a SKU"),
    ("worker restart, 1,000,000 SKUs", "<= 60 s"),
    ("redo, 1,000,000 SKUs, from Redis's first answer to blessed", "<= 10 s"),
)


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


async def measure(parts: list[str], report: Report) -> None:
    """Every row of `parts`, on servers of their own."""
    peak: float | None = None
    with tempfile.TemporaryDirectory(prefix="stocktide-bench-") as folder:
        async with run_servers(Path(folder)) as servers:
            if "worker" in parts:
                peak = await rows.measure_workers(servers, report)
            if "floor" in parts:
                await rows.measure_floor(servers, report, peak)
            if "scaling" in parts:
                await rows.measure_scaling(servers, report, peak)
            if "http" in parts:
                await http_rows.measure_http(servers, report)
            if "publication" in parts:
                await rows.measure_publication(servers, report, peak or PEAK)
            if "waiting" in parts:
                await measure_waiting(servers, report)
            if "subscribers" in parts:
                await measure_subscribers(servers, report)
    if "start" in parts:
        await rows.measure_start(report)
    if "size" in parts:
        report.rows += size_rows()


@click.command()
@click.option("--only", default=",".join(PARTS), help="comma-separated parts: " + ", ".join(PARTS))
def main(only: str) -> None:
    """Measure, print, write."""
    report = Report(make_console(TABLE_WIDTH))
    asyncio.run(measure(only.split(","), report))
    report.print_table()
    write_json("bench", report.rows)


if __name__ == "__main__":
    main()
