"""The report of the size benchmark: progress on the terminal, rows of the table, raw figures, broken promises."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from bench.report import MET_TEXT, BenchmarkRow

# The interval between progress lines during a long step.
PROGRESS_SECONDS = 5.0


class SizeReport:
    """Progress lines with the time since the start; rows of the table; raw figures by name; `broken` promises."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._printed = 0.0
        self.rows: list[BenchmarkRow] = []
        self.figures: dict[str, Any] = {}
        self.broken: list[str] = []

    def log(self, line: str) -> None:
        """Print one line of progress."""
        self._printed = time.monotonic()
        seconds = self._printed - self._began
        self._console.print(f"[dim]{seconds:7.1f} s[/dim]  {line}", highlight=False, soft_wrap=True)

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

    def check(self, holds: bool, sentence: str) -> None:
        """Check a promise; `sentence` describes the violation."""
        if not holds:
            self.broken.append(sentence)
            self.log(f"[bold red]BROKEN[/bold red]  {sentence}")
