"""`make bench-compare`: every contender in every round, one after the other, each on servers of its own.

`python -m bench.compare [--only stocktide,lua] [--seconds N]`. Prints a table, writes `build/compare.json`; exit status
1 if Stocktide broke a promise or a contender failed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from bench.compare.contenders import CONTENDERS
from bench.compare.report import ContenderResult, table
from bench.compare.rounds import kill_process_under_load, kill_store_under_load, measure_speed
from bench.compare.stores import ContenderUnavailable
from bench.report import describe_machine, make_console, write_json

SPEED_SECONDS = 10.0
# If the output goes to a file.
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
                console.print(f"  {process.done}; no response for {process.silent_seconds:.1f} s")
                store = await kill_store_under_load(contender)
                console.print(f"  its store: {store.done}; no response for {store.silent_seconds:.1f} s")
                speed = await measure_speed(contender, seconds)
        except ContenderUnavailable as error:
            console.print(f"  [bold red]ABSENT[/bold red]: {error}", highlight=False)
            return ContenderResult(name, entry.title, missing=str(error))
    console.print(f"  {speed.hot.rate:,.0f} held/s")
    return ContenderResult(
        name, entry.title, entry.store_death, load_before=load, speed=speed, process=process, store=store
    )


@click.command()
@click.option("--only", default=",".join(CONTENDERS), help="Comma-separated: " + ", ".join(CONTENDERS))
@click.option("--seconds", default=SPEED_SECONDS, show_default=True, help="Of each closed loop.")
def main(only: str, seconds: float) -> None:
    """Compare, print, write."""
    names = only.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise click.BadParameter(f"there is no {', '.join(unknown)}", param_hint="--only")
    console = make_console(TABLE_WIDTH)
    machine = describe_machine()
    results: list[ContenderResult] = []
    command = f"python -m bench.compare --only {only} --seconds {seconds:g}"

    async def compete_all() -> None:
        for name in names:
            results.append(await compete(name, seconds, console))
            # After each contender: its results are kept if a later one fails.
            write_json("compare", {"command": command, "machine": machine, "results": results})

    try:
        asyncio.run(compete_all())
    finally:
        console.print(table(results))
        console.print(
            f"{machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / 2**30:.0f} GB, "
            f"{machine['system']}, Python {machine['python']}; load before: {machine['load_average'][0]:.1f}",
            highlight=False,
        )
    sys.exit(1 if any(_broken(result) for result in results) else 0)


def _broken(result: ContenderResult) -> bool:
    kills = [kill for kill in (result.process, result.store) if kill is not None]
    return result.name == "stocktide" and any(kill.verdict.broken for kill in kills)


if __name__ == "__main__":
    main()
