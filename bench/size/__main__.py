"""`python -m bench.size [--skus N] [--orders N] [--rate N] [--data DIR] [--keep]`: the shop, step by step.

Prints a table, writes `build/size-N.json`; exit status 1 if a promise was broken (a lost order, different digests,
drift), whatever the goals say.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import click

from bench.report import Report, describe_machine, make_console, write_json
from bench.size.steps import SizePlan, measure

DEFAULT_SKUS, DEFAULT_ORDERS, DEFAULT_RATE = 1_000_000, 200_000, 400
# Disk per SKU during a run, all topics and files together: some 10 KB, and a reserve.
BYTES_EACH = 15_000
# If the output goes to a file.
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
    console = make_console(TABLE_WIDTH)
    folder = data or Path(tempfile.mkdtemp(prefix="stocktide-size-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < skus * BYTES_EACH:
        console.print(f"{folder} has room for {free / 1e9:.0f} GB; {skus * BYTES_EACH / 1e9:.0f} may be needed")
    report = Report(console)
    try:
        asyncio.run(measure(SizePlan(skus=skus, orders=orders, rate=rate), folder, report))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        report.print_table()
        document = {
            "command": f"python -m bench.size --skus {skus} --orders {orders} --rate {rate}",
            "machine": describe_machine(),
            "rows": report.rows,
            "figures": report.figures,
            "broken": report.broken,
        }
        write_json(f"size-{skus}", document)
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
