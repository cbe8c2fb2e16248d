"""What was measured: said while it is, kept for the table and the JSON."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rows import BenchmarkRow

# While a step takes long, a line is said this often.
SAY_SECONDS = 5.0

_MET = {True: "met", False: "missed", None: ""}


class SizeReport:
    """Lines with the time since the start; rows of the table; raw figures by name. `broken`: promises that were."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._said = 0.0
        self.rows: list[BenchmarkRow] = []
        self.figures: dict[str, Any] = {}
        self.broken: list[str] = []

    def say(self, line: str) -> None:
        """One line of progress."""
        self._said = time.monotonic()
        self._console.print(f"[dim]{self._said - self._began:7.1f} s[/dim]  {line}", highlight=False, soft_wrap=True)

    def say_sometimes(self, line: str) -> None:
        """A line that is one of many alike."""
        if time.monotonic() - self._said >= SAY_SECONDS:
            self.say(line)

    def measured(
        self, name: str, text: str, *, goal: str = "", met: bool | None = None, figures: dict[str, Any] | None = None
    ) -> None:
        """A row of the table, and the figures behind it."""
        self.rows.append(BenchmarkRow(name, text, goal, met))
        self.figures[name] = figures or text
        beside = "" if met is None else f" (goal {goal}: {_MET[met]})"
        self.say(f"{name}: [bold]{text}[/bold]{beside}")

    def check(self, holds: bool, sentence: str) -> None:
        """A promise that was looked at; `sentence` says what was found where it does not hold."""
        if not holds:
            self.broken.append(sentence)
            self.say(f"[bold red]BROKEN[/bold red]  {sentence}")

    def table(self) -> Table:
        """All rows."""
        table = Table("what", "measured", "goal", "")
        for row in self.rows:
            table.add_row(row.name, row.measured, row.goal, _MET[row.met])
        return table
