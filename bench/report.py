"""Rows of a benchmark, its table and its JSON, with the machine that the figures belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console
from rich.table import Table

# The folder of all reports.
BUILD = Path("build")
MET_TEXT = {True: "met", False: "missed", None: ""}


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One line of the table: `measured` as text, `met` None if this row has no goal."""

    name: str
    measured: str
    goal: str = ""
    met: bool | None = None


def make_table(rows: Sequence[BenchmarkRow]) -> Table:
    """All rows."""
    table = Table("what", "measured", "goal", "")
    for row in rows:
        table.add_row(row.name, row.measured, row.goal, MET_TEXT[row.met])
    return table


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
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
