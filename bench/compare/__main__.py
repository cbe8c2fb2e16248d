"""`make bench-compare`: every contender through every round, one after the other, on servers of their own.

`python -m bench.compare [--only stocktide,lua] [--seconds N]`. Prints a table, writes `build/compare.json`; exit status
1 where Stocktide broke a promise, or a contender could not be brought to its end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from bench.compare.contenders import CONTENDERS
from bench.compare.report import ContenderResult, machine, table
from bench.compare.rounds import kill_process_under_load, kill_store_under_load, measure_speed
from bench.compare.stores import ContenderUnavailable

SPEED_SECONDS = 10.0
# Where the output goes to a file.
TABLE_WIDTH = 220


async def compete(name: str, seconds: float, console: Console) -> ContenderResult:
    """One contender, from start to stop."""
    entry = CONTENDERS[name]
    load = os.getloadavg()[0]
    console.print(f"{entry.title} … (load {load:.1f})", highlight=False)
    with tempfile.TemporaryDirectory(prefix="stocktide-compare-") as folder:
        try:
            async with entry.opened(Path(folder)) as contender:
                process = await kill_process_under_load(contender)
                console.print(f"  {process.done}; nobody was told anything for {process.silent_seconds:.1f} s")
                store = await kill_store_under_load(contender)
                console.print(f"  its store: {store.done}; silent for {store.silent_seconds:.1f} s")
                fast = await measure_speed(contender, seconds)
        except ContenderUnavailable as absent:
            console.print(f"  [bold red]ABSENT[/bold red]: {absent}", highlight=False)
            return ContenderResult(name, entry.title, missing=str(absent))
    console.print(f"  {fast.hot.rate:,.0f} held/s")
    return ContenderResult(
        name, entry.title, entry.store_death, load_before=load, speed=fast, process=process, store=store
    )


async def _compete_all(
    names: list[str], seconds: float, console: Console, write: Callable[[list[ContenderResult]], None]
) -> None:
    """`write` is told of all results after each: what was measured stays where a later contender fails."""
    results: list[ContenderResult] = []
    for name in names:
        results.append(await compete(name, seconds, console))
        write(results)


@click.command()
@click.option("--only", default=",".join(CONTENDERS), help="Comma-separated: " + ", ".join(CONTENDERS))
@click.option("--seconds", default=SPEED_SECONDS, show_default=True, help="Of each closed loop.")
def main(only: str, seconds: float) -> None:
    """Compare, print, write."""
    names = only.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise click.BadParameter(f"there is no {', '.join(unknown)}", param_hint="--only")
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    about = machine()
    results: list[ContenderResult] = []
    command = f"python -m bench.compare --only {only} --seconds {seconds:g}"
    build = Path("build")
    build.mkdir(exist_ok=True)

    def write(some: list[ContenderResult]) -> None:
        results[:] = some
        document = {"command": command, "machine": about, "results": some}
        (build / "compare.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))

    try:
        asyncio.run(_compete_all(names, seconds, console, write))
    finally:
        _print(results, about, console)
    sys.exit(1 if any(_broken(result) for result in results) else 0)


def _print(results: list[ContenderResult], about: dict[str, Any], console: Console) -> None:
    console.print(table(results))
    console.print(
        f"{about['cores']} cores ({about['processor']}), {about['memory_bytes'] / 2**30:.0f} GB, {about['system']}, "
        f"Python {about['python']}; load before: {about['load_average'][0]:.1f}",
        highlight=False,
    )


def _broken(result: ContenderResult) -> bool:
    deaths = [death for death in (result.process, result.store) if death is not None]
    return result.name == "stocktide" and any(death.verdict.broken for death in deaths)


if __name__ == "__main__":
    main()
