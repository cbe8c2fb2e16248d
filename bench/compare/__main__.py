"""`make bench-compare`: every contender in every round, one after the other, each on servers of its own.

`python -m bench.compare [--only stocktide,lua] [--seconds N]`. Prints a table, writes `build/compare.json`; exit status
1 if Stocktide broke a promise or a contender failed.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.table import Table

from bench.compare.contenders import CONTENDERS
from bench.compare.rounds import KillResult, SpeedResult, kill_under_load, measure_speed
from bench.compare.stores import ContenderUnavailable
from bench.report import MET_TEXT, describe_machine, make_console, write_json

SPEED_SECONDS = 10.0
# The goals of Stocktide's rate over 1,000 SKUs relative to that of another contender.
RATIO_GOALS = {"lua": 0.7, "row-lock": 2.0}
# If the output goes to a file.
TABLE_WIDTH = 220
# In units where the head says nothing else.
HEADS = (
    "way",
    "held/s\n1,000 SKUs",
    "held/s, a fifth\non one hot SKU",
    "p50 / p99 ms\nof those",
    "one caller\np50 ms",
    "its process killed:\noversold / lost / leaked, silent",
    "its store killed:\noversold / lost / leaked, silent",
    "the store",
)


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """The results of one contender; `missing`: the reason why there are none. `load_before`: the load average of the
    machine's last minute before it started."""

    name: str
    title: str
    store_death: str = ""
    missing: str = ""
    load_before: float = 0.0
    speed: SpeedResult | None = None
    process: KillResult | None = None
    store: KillResult | None = None

    @property
    def broken(self) -> bool:
        """Whether Stocktide broke a promise."""
        kills = [kill for kill in (self.process, self.store) if kill is not None]
        return self.name == "stocktide" and any(kill.verdict.broken for kill in kills)


async def compete(name: str, seconds: float, console: Console) -> ContenderResult:
    """One contender, from start to stop."""
    entry = CONTENDERS[name]
    load = os.getloadavg()[0]
    console.print(f"{entry.title} … (load {load:.1f})", highlight=False)
    with tempfile.TemporaryDirectory(prefix="stocktide-compare-") as folder:
        try:
            async with entry.opened(Path(folder)) as contender:
                process = await kill_under_load(contender, "process", contender.kill)
                console.print(f"  {process.done}; no response for {process.silent_seconds:.1f} s")
                contender.store.watch()
                store = await kill_under_load(contender, "store", contender.store.lose)
                console.print(f"  its store: {store.done}; no response for {store.silent_seconds:.1f} s")
                speed = await measure_speed(contender, seconds)
        except ContenderUnavailable as error:
            console.print(f"  [bold red]ABSENT[/bold red]: {error}", highlight=False)
            return ContenderResult(name, entry.title, missing=str(error))
    console.print(f"  {speed.hot.rate:,.0f} held/s")
    return ContenderResult(name, entry.title, entry.store_death, "", load, speed, process, store)


def make_table(results: list[ContenderResult]) -> Table:
    """One line per contender."""
    table = Table(*HEADS, title="64 callers in a closed loop", show_lines=True)
    for result in results:
        if result.speed is None:
            table.add_row(result.title, f"ABSENT: {result.missing}")
            continue
        even, hot, lone = result.speed.even, result.speed.hot, result.speed.lone
        table.add_row(
            result.title,
            f"{even.rate:,.0f}",
            f"{hot.rate:,.0f}",
            f"{hot.p50_ms:.1f} / {hot.p99_ms:.1f}",
            f"{lone.p50_ms:.1f}",
            _kill_text(result.process),
            _kill_text(result.store),
            result.store_death,
        )
    return table


def describe_ratios(results: list[ContenderResult]) -> list[str]:
    """A line for each goal whose two contenders took part; one that is absent is named."""
    found = {result.name: result for result in results}
    lines = []
    for name, goal in RATIO_GOALS.items():
        if (ours := found.get("stocktide")) is None or (theirs := found.get(name)) is None:
            continue
        if ours.speed is None or theirs.speed is None:
            lines.append(f"Stocktide : {theirs.title}: ABSENT: {ours.missing or theirs.missing}")
            continue
        ratio = ours.speed.even.rate / theirs.speed.even.rate
        lines.append(f"Stocktide : {theirs.title}: {ratio:.2f} (goal >= {goal}: {MET_TEXT[ratio >= goal]})")
    return lines


def _kill_text(kill: KillResult | None) -> str:
    if kill is None:
        return ""
    found = kill.verdict
    silent = "for good" if math.isinf(kill.silent_seconds) else f"{kill.silent_seconds:.1f} s"
    text = f"{found.oversold_units} / {found.lost_units} / {found.leaked_units}, {silent}"
    return text + (f", {found.unanswered} unanswered" if found.unanswered else "")


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
        uvloop.run(compete_all())
    finally:
        console.print(make_table(results))
        for line in describe_ratios(results):
            console.print(line, highlight=False)
        console.print(
            f"{machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / 2**30:.0f} GB, "
            f"{machine['system']}, Python {machine['python']}; load before: {machine['load_average'][0]:.1f}",
            highlight=False,
        )
    sys.exit(1 if any(result.broken for result in results) else 0)


if __name__ == "__main__":
    main()
