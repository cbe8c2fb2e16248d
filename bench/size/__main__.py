"""`python -m bench.size [--skus N] [--orders N] [--rate N] [--data DIR] [--keep]`: the shop, step by step.

Prints a table, writes `build/size-N.json`; exit status 1 where a promise was broken (an order lost, digests that
differ, drift), whatever the goals say.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import orjson
import psutil
from rich.console import Console

from bench.size.report import SizeReport
from bench.size.steps import SizePlan, measure

DEFAULT_SKUS, DEFAULT_ORDERS, DEFAULT_RATE = 1_000_000, 200_000, 400
# A SKU of a shop that was measured takes some 10 KB on the disk, all topics and files together.
BYTES_EACH = 15_000
# Where the output goes to a file.
TABLE_WIDTH = 200


@click.command()
@click.option("--skus", default=DEFAULT_SKUS, show_default=True, type=click.IntRange(min=1_000))
@click.option("--orders", default=DEFAULT_ORDERS, show_default=True, type=click.IntRange(min=100))
@click.option(
    "--rate",
    default=DEFAULT_RATE,
    show_default=True,
    type=click.IntRange(min=10),
    help="Orders a second while things fail.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the shop; without it a temporary one.")
@click.option("--keep", is_flag=True, help="Keep the folder; a later run on it goes on with its shop.")
def main(skus: int, orders: int, rate: int, data: Path | None, keep: bool) -> None:
    """Make the shop, measure, print, write."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    folder = data or Path(tempfile.mkdtemp(prefix="stocktide-size-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < skus * BYTES_EACH:
        console.print(f"{folder} has room for {free / 1e9:.0f} GB; {skus * BYTES_EACH / 1e9:.0f} may be needed")
    notes = SizeReport(console)
    try:
        asyncio.run(measure(SizePlan(skus=skus, orders=orders, rate=rate), folder, notes))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        console.print(notes.table())
        _write(notes, skus, orders, rate)
    sys.exit(1 if notes.broken else 0)


def _write(notes: SizeReport, skus: int, orders: int, rate: int) -> None:
    build = Path("build")
    build.mkdir(exist_ok=True)
    report: dict[str, Any] = {
        "command": f"python -m bench.size --skus {skus} --orders {orders} --rate {rate}",
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "load_average": os.getloadavg(),
        },
        "rows": notes.rows,
        "figures": notes.figures,
        "broken": notes.broken,
    }
    (build / f"size-{skus}.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
