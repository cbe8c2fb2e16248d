"""`make bench`: measure every row in one run, print the table with the goals beside it, write `build/bench.json`.

`python -m bench [--only worker,http,publication]` measures a part.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from bench import rows
from bench.rows import Row
from bench.stage import Stage, open_shop, servers

PARTS = ("worker", "http", "publication")


async def worker_rows(stage: Stage, console: Console) -> tuple[list[Row], float]:
    """(a), (b), (c), and the peak rate."""
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
        Row(
            "worker : plain Faust agent",
            f"{spread / plain:.1f}  ({spread:.0f}/s : {plain:.0f}/s)",
            ">= 15",
            spread >= 15 * plain,
        ),
        Row(
            "worker : the same Lua batches with no Kafka",
            f"{spread / lua:.2f}  ({spread:.0f}/s : {lua:.0f}/s)",
            ">= 0.60",
            spread >= 0.6 * lua,
        ),
        Row(
            "one hot SKU : 1,000 SKUs",
            f"{hot / spread:.2f}  ({hot:.0f}/s : {spread:.0f}/s)",
            ">= 1.00",
            hot >= spread,
        ),
    ], spread


async def measure(parts: list[str], console: Console) -> list[Row]:
    """Every row of `parts`, on servers of their own."""
    found: list[Row] = []
    peak = 10_000.0
    with tempfile.TemporaryDirectory(prefix="stocktide-bench-") as folder:
        async with servers(Path(folder)) as stage:
            if "worker" in parts:
                some, peak = await worker_rows(stage, console)
                found += some
            if "http" in parts:
                console.print("POST /v1/orders …")
                await open_shop(stage, "http", rows.SKUS)
                found += await rows.http_against_empty(stage, "http")
            if "publication" in parts:
                console.print("event in → channel update out …")
                found.append(await rows.publication(stage, "publish", peak))
    return found


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
    build = Path("build")
    build.mkdir(exist_ok=True)
    # orjson writes dataclasses as they are.
    (build / "bench.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
