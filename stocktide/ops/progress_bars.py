"""The progress of a command on a terminal: a bar for each phase.

In: phases with their counts. Out: bars on standard error, and the same progress to a watchdog.
"""

from __future__ import annotations

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from stocktide.ops.stalled import StallWatchdog


class ProgressBars:
    """A bar for each phase on a terminal; elsewhere lines if `lines` (the bars then also stay), else nothing."""

    def __init__(self, command: str, hidden: bool = False, lines: bool = False) -> None:
        self.watchdog = StallWatchdog(command)
        columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal and not hidden
        self._lines = lines and not self._console.is_terminal
        self._bar = rich.progress.Progress(
            *columns, console=self._console, disable=not self._shown, transient=not lines
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def __enter__(self) -> ProgressBars:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, phase: str, done: int, total: int) -> None:
        """Show the progress of a phase; `total` 0: unknown."""
        self.watchdog.report(phase, done, total)
        if self._lines:
            self._console.print(f"{phase}: {done:,} of {total or '?'}")
        elif self._shown:
            if phase not in self._tasks:
                self._tasks[phase] = self._bar.add_task(phase)
            self._bar.update(self._tasks[phase], completed=done, total=total or None)
