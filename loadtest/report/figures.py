"""The parts of the page's plots, as plain figures for plotly.js.

In: names, times, values. Out: a `Plot`, and traces. Colours are names of the page's style sheet, written `var(--name)`,
which the page replaces by those of the reader's colour scheme. Names of the run are escaped, because plotly.js reads
texts as markup.
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
    """One figure. `name` is unique on the page; `height` is CSS pixels, `hover` is plotly.js's hovermode."""

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
    """A line over time; with `gaps`, None interrupts it."""
    made: dict[str, Any] = {"type": "scatter", "mode": "lines", "name": escaped(name)}
    made["line"] = {"color": colour, "dash": dash, "width": width}
    if gaps and None in values:
        # A single point between two gaps has no line, only a marker.
        made |= {"mode": "lines+markers", "marker": {"color": colour, "size": 4}, "connectgaps": False}
    return made | {"x": list(at), "y": list(values)}


def bars(name: str, at: Sequence[float], values: Sequence[int], colour: str) -> dict[str, Any]:
    """Bars over time, to be stacked."""
    made = {"type": "bar", "name": escaped(name), "marker": {"color": colour}}
    return made | {"x": list(at), "y": list(values)}


def escaped(name: str) -> str:
    """A name as plotly.js needs it."""
    return escape(name, quote=False)
