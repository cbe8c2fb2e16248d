"""The view of a running load test: in place on a terminal, elsewhere a plain line now and then.

In: `LiveSnapshot`s. Out: text on the console.

    with LiveView(console) as live:
        live.update(LiveSnapshot(seconds=1.0, planned_seconds=60.0, rates={"scheduled": 400.0}))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as InPlace
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.report.formatting import clock, printable

# The interval of lines where the view cannot stay in place: a log of ten minutes has 120.
LINE_EVERY_SECONDS = 5.0
# Samples of a curve: the last minute at two snapshots a second, and the width of a wide terminal.
CURVE_SAMPLES_MAX = 120
# The view has to fit into 24 lines, or the terminal cuts it off.
HOT_SHOWN_MAX = 8
# The width of the texts beside a curve.
BESIDE_CURVE_COLUMNS = 22
SKU_COLUMNS_MAX = 32
TEXT_CHARACTERS_MAX = 300

RATES = ("scheduled", "accepted", "refused", "failed")
_STEPS = "▁▂▃▄▅▆▇█"
_PLAIN_STEPS = ".:-=+*#@"
_MODE_STYLES = {"in_stock": "green", "preorder": "yellow", "sold_out": "red", "suspended": "magenta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSnapshot:
    """The state of a run. Rates are per second, over the last second or so; latencies are ms from the scheduled time.

    `rates` are those of `RATES`. `violations` counts those found so far; `first_violation` is a sentence. `hot`: SKU,
    available units and mode.
    """

    seconds: float
    planned_seconds: float
    rates: Mapping[str, float]
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    lag_p99_ms: float = 0.0
    in_flight: int = 0
    violations: int = 0
    first_violation: str = ""
    hot: tuple[tuple[str, int, str], ...] = ()


class LiveView:
    """The view. Its context manager restores the terminal. Nothing is shown before the first update."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
        self._progress = Progress(*columns, console=console, expand=True)
        self._task = self._progress.add_task("")
        self._in_place = InPlace(console=console, auto_refresh=False) if console.is_terminal else None
        self._curves: dict[str, deque[float]] = {}
        self._last: LiveSnapshot | None = None
        self._printed: LiveSnapshot | None = None

    def __enter__(self) -> LiveView:
        if self._in_place is not None:
            self._in_place.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._in_place is not None:
            self._in_place.stop()
        elif self._last is not None and self._last is not self._printed:
            self._print(self._last)

    def update(self, snapshot: LiveSnapshot) -> None:
        """Show it now, or, without a terminal, when a line is due. A new violation is shown at once."""
        self._remember(snapshot)
        if self._in_place is not None:
            self._in_place.update(self.view(snapshot), refresh=True)
        elif self._is_due(snapshot):
            self._print(snapshot)
        self._last = snapshot

    def view(self, snapshot: LiveSnapshot) -> RenderableType:
        """The view of a snapshot on a terminal."""
        self._update_progress(snapshot)
        parts: list[RenderableType] = [
            self._progress,
            self._rates(snapshot),
            _latencies(snapshot),
            _violations(snapshot),
        ]
        if snapshot.hot:
            parts.append(_hot(snapshot))
        return Group(*parts)

    def _remember(self, snapshot: LiveSnapshot) -> None:
        for name, rate in snapshot.rates.items():
            self._curves.setdefault(name, deque(maxlen=CURVE_SAMPLES_MAX)).append(rate)

    def _is_due(self, snapshot: LiveSnapshot) -> bool:
        printed = self._printed
        if printed is None or snapshot.violations > printed.violations:
            return True
        return snapshot.seconds - printed.seconds >= LINE_EVERY_SECONDS

    def _print(self, snapshot: LiveSnapshot) -> None:
        self._printed = snapshot
        self._console.print(snapshot_line(snapshot), markup=False, highlight=False, soft_wrap=True)

    def _update_progress(self, snapshot: LiveSnapshot) -> None:
        planned, seconds = snapshot.planned_seconds, snapshot.seconds
        after = f", and {clock(seconds - planned)} after it" if seconds >= planned + 1 else ""
        text = f"[bold]{clock(min(seconds, planned))}[/bold] of {clock(planned)}{after}"
        done = min(1.0, seconds / planned) if planned > 0 else 1.0
        self._progress.update(self._task, description=text, total=1.0, completed=done)

    def _rates(self, snapshot: LiveSnapshot) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", width=9, no_wrap=True)
        grid.add_column(no_wrap=True)
        width = max(8, self._console.width - BESIDE_CURVE_COLUMNS)
        steps = _PLAIN_STEPS if self._console.options.ascii_only else _STEPS
        # All curves have the same scale.
        top = max((rate for curve in self._curves.values() for rate in curve), default=0.0)
        for name, rate in snapshot.rates.items():
            style = _rate_style(name, rate)
            drawn = sparkline(list(self._curves.get(name, ()))[-width:], top, steps)
            grid.add_row(Text(name, style), Text(f"{rate:,.0f}/s", style or "bold"), Text(drawn, style or "cyan"))
        return grid


def sparkline(values: list[float], top: float, steps: str = _STEPS) -> str:
    """A curve of one line: 0 is a blank, every other value is visible, `top` has the full height."""
    if top <= 0:
        return " " * len(values)
    last = len(steps) - 1
    return "".join(" " if value <= 0 else steps[min(last, int(value / top * last + 0.5))] for value in values)


def snapshot_line(snapshot: LiveSnapshot) -> str:
    """The snapshot as one plain line."""
    rates = "  ".join(f"{name} {rate:,.0f}/s" for name, rate in snapshot.rates.items())
    figures = "  ".join(f"{name} {value}" for name, value in _figures_of(snapshot))
    line = f"{snapshot.seconds:.0f}/{snapshot.planned_seconds:.0f} s  {rates}  {figures}"
    if snapshot.violations:
        line += f"  VIOLATIONS {snapshot.violations:,}"
        if snapshot.first_violation:
            line += f": {printable(snapshot.first_violation[:TEXT_CHARACTERS_MAX])}"
    return line


def _rate_style(name: str, rate: float) -> str:
    return {"accepted": "green", "refused": "yellow"}.get(name, "bold red" if name == "failed" and rate > 0 else "")


def _figures_of(snapshot: LiveSnapshot) -> tuple[tuple[str, str], ...]:
    return (
        ("p50", _ms(snapshot.p50_ms)),
        ("p99", _ms(snapshot.p99_ms)),
        ("lag p99", _ms(snapshot.lag_p99_ms)),
        ("in flight", f"{snapshot.in_flight:,}"),
    )


def _latencies(snapshot: LiveSnapshot) -> Text:
    text = Text()
    for name, value in _figures_of(snapshot):
        text.append(f"{name} ", "dim").append(value, "bold").append("   ")
    text.rstrip()
    return text


def _violations(snapshot: LiveSnapshot) -> Text:
    if not snapshot.violations:
        return Text("no promise broken so far", "green")
    many = "promise broken" if snapshot.violations == 1 else "promises broken"
    text = Text(f"{snapshot.violations:,} {many}", "bold red")
    if snapshot.first_violation:
        text.append(f": {printable(snapshot.first_violation[:TEXT_CHARACTERS_MAX])}", "red")
    return text


def _hot(snapshot: LiveSnapshot) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=SKU_COLUMNS_MAX)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_row(Text("hot SKU", "dim"), Text("left", "dim"), Text("mode", "dim"))
    for sku, left, mode in snapshot.hot[:HOT_SHOWN_MAX]:
        style = _MODE_STYLES.get(mode, "")
        grid.add_row(Text(printable(sku)), Text(f"{left:,}", "bold"), Text(printable(mode.replace("_", " ")), style))
    if (more := len(snapshot.hot) - HOT_SHOWN_MAX) > 0:
        grid.add_row(Text(f"and {more:,} more", "dim"))
    return grid


def _ms(value: float) -> str:
    if value <= 0:  # nothing was measured yet
        return "-"
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
