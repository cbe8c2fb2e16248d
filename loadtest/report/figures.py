"""What a plot of a load test's page is made of: plain figures for plotly.js.

In: names, times, values. Out: a `Plot`, and traces. Colours are names of the page's own style sheet, written
`var(--name)`: the page puts in those of the scheme that the reader prefers. Every name from the run is escaped, since
plotly.js reads texts as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SECONDS_AXIS = {"title": {"text": "seconds since the start of the load"}, "rangemode": "tozero"}
LINE_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One figure. `name` is unique on the page; `height` is CSS pixels, `hover` what plotly.js shows of it."""

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 340
    hover: str = "x unified"


def line(
    name: str, at: Sequence[float], values: Sequence[Any], colour: str, dash: str, gaps: bool = False, width: float = 2
) -> dict[str, Any]:
    """A line over time; with `gaps`, None is a gap."""
    made: dict[str, Any] = {"type": "scatter", "mode": "lines", "name": escaped(name)}
    made["line"] = {"color": colour, "dash": dash, "width": width}
    if gaps and None in values:
        # A lone second between two gaps has no line: its mark shows it.
        made |= {"mode": "lines+markers", "marker": {"color": colour, "size": 4}, "connectgaps": False}
    return made | {"x": list(at), "y": list(values)}


def bars(name: str, at: Sequence[float], values: Sequence[int], colour: str) -> dict[str, Any]:
    """Bars over time, for stacking."""
    made = {"type": "bar", "name": escaped(name), "marker": {"color": colour}}
    return made | {"x": list(at), "y": list(values)}


def escaped(name: str) -> str:
    """A name as plotly.js has to be given it."""
    return escape(name, quote=False)
