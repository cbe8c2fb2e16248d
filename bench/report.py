"""The report of a benchmark: progress on the terminal, rows of the table, JSON with the machine it belongs to."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from stocktide.loadtest.measure.processes import machine

# The folder of all reports.
BUILD = Path("build")
MET_TEXT = {True: "met", False: "missed", None: ""}
# The interval between progress lines during a long step.
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One line of the table: `measured` as text, `met` None if this row has no goal."""

    name: str
    measured: str
    goal: str = ""
    met: bool | None = None


class Report:
    """Progress lines with the time since the start; rows of the table; raw figures by name; `broken` promises."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()
        self._printed = 0.0
        self.rows: list[BenchmarkRow] = []
        self.figures: dict[str, Any] = {}
        self.broken: list[str] = []

    def log(self, line: str) -> None:
        """Print one line of progress."""
        self._printed = time.monotonic()
        seconds = self._printed - self._began
        self.console.print(f"[dim]{seconds:7.1f} s[/dim]  {line}", highlight=False, soft_wrap=True)

    def log_progress(self, line: str) -> None:
        """Print a line, at most one per PROGRESS_SECONDS."""
        if time.monotonic() - self._printed >= PROGRESS_SECONDS:
            self.log(line)

    def add(
        self, name: str, text: str, *, goal: str = "", met: bool | None = None, figures: dict[str, Any] | None = None
    ) -> None:
        """Add a row of the table, and its figures."""
        self.rows.append(BenchmarkRow(name, text, goal, met))
        self.figures[name] = figures or text
        beside = "" if met is None else f" (goal {goal}: {MET_TEXT[met]})"
        self.log(f"{name}: [bold]{text}[/bold]{beside}")

    def ratio(
        self, name: str, over: float, under: float, least: float | None = None, figures: dict[str, Any] | None = None
    ) -> None:
        """Add a row with the ratio of two rates (1/s); `least` is its goal."""
        text = f"{over / under:.2f}  ({over:,.0f}/s : {under:,.0f}/s)"
        goal, met = ("", None) if least is None else (f">= {least:.2f}", over >= least * under)
        self.add(name, text, goal=goal, met=met, figures=figures)

    def check(self, holds: bool, sentence: str) -> None:
        """Check a promise; `sentence` describes the violation."""
        if not holds:
            self.broken.append(sentence)
            self.log(f"[bold red]BROKEN[/bold red]  {sentence}")

    def print_table(self) -> None:
        """Print all rows."""
        table = Table("what", "measured", "goal", "")
        for row in self.rows:
            table.add_row(row.name, row.measured, row.goal, MET_TEXT[row.met])
        self.console.print(table)


def make_console(file_width: int) -> Console:
    """The terminal; `file_width` columns if the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=file_width)


def write_json(name: str, document: object) -> None:
    """Write `build/NAME.json`; orjson writes dataclasses as they are."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"{name}.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def describe_machine() -> dict[str, Any]:
    """The machine, with its load at this moment."""
    return {
        **machine(),
        "system": platform.platform(),
        "processor": _processor(),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
