"""The plots of hot SKUs: the quantity of each channel as steps, and its mode as a strip below.

In: `HotSku`s. Out: a `Plot` for each, up to a limit. Long histories are thinned; no change of mode is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from stocktide.loadtest.measure.results import HotSku, StockPoint
from stocktide.loadtest.report.formatting import clock, plain_name
from stocktide.loadtest.report.plots import LINE_DASHES, SECONDS_AXIS, SERIES, Plot, escaped

# A plot fills a screen; the JSON report has all SKUs.
HOT_PLOTTED_MAX = 6
CHANNELS_PLOTTED_MAX = 6
# More steps than pixels are invisible and enlarge the page.
POINTS_PLOTTED_MAX = 1_500
# Stretches of one mode in one strip; more cannot be told apart.
STRETCHES_PLOTTED_MAX = 400

MODES = {
    "in_stock": ("in stock", "var(--in-stock)", ""),
    "preorder": ("preorder", "var(--preorder)", "/"),
    "sold_out": ("sold out", "var(--sold-out)", "x"),
    "suspended": ("suspended", "var(--suspended)", "."),
}
UNKNOWN_MODE = ("another mode", "var(--soft)", "-")


def hot_plots(hot: Sequence[HotSku], load_seconds: float) -> list[Plot]:
    """A plot for each of the first hot SKUs with published updates."""
    published = [sku for sku in hot if any(sku.channels.values())]
    shown = published[:HOT_PLOTTED_MAX]
    # The same end for all, so that they can be compared.
    lasts = [points[-1].at for sku in shown for points in sku.channels.values() if points]
    end = max(load_seconds, *lasts) if lasts else load_seconds
    return [_plot(number, sku, end) for number, sku in enumerate(shown, 1)]


def thinned(points: Sequence[StockPoint]) -> list[StockPoint]:
    """About `POINTS_PLOTTED_MAX` points at most: the first, the last, each change of mode, the rest at even steps."""
    if len(points) <= POINTS_PLOTTED_MAX:
        return list(points)
    step = -(-len(points) // POINTS_PLOTTED_MAX)
    last = len(points) - 1
    return [
        point
        for number, point in enumerate(points)
        if number % step == 0 or number == last or point.mode != points[number - 1].mode
    ]


def stretches(points: Sequence[StockPoint], end: float) -> list[tuple[float, float, str]]:
    """The start of each mode, its duration (s), and its name."""
    found: list[tuple[float, str]] = []
    for point in points:
        if not found or found[-1][1] != point.mode:
            found.append((point.at, point.mode))
    ends = [at for at, _ in found[1:]] + [max(end, found[-1][0])] if found else []
    return [(at, until - at, mode) for (at, mode), until in zip(found, ends, strict=True)]


def _plot(number: int, sku: HotSku, end: float) -> Plot:
    channels = {name: points for name, points in sku.channels.items() if points}
    shown = dict(list(channels.items())[:CHANNELS_PLOTTED_MAX])
    data = [_steps(place, name, points, end) for place, (name, points) in enumerate(shown.items())]
    data += _strips(list(shown.values()), end)
    left_out = len(channels) - len(shown)
    caption = "What each channel could sell, and its mode in the strip below. Lines of equal values overlap"
    caption += (
        f", the thinner on top. {left_out:,} more channels are in the JSON." if left_out else ", the thinner on top."
    )
    return Plot(
        name=f"hot-{number}",
        title=f"{plain_name(sku.sku)}: {_summary(sku.units, shown)}",
        caption=caption,
        data=data,
        layout=_layout(list(shown), end),
        height=330 + 26 * len(shown),
        hover="closest",
    )


def _summary(units: int, channels: dict[str, tuple[StockPoint, ...]]) -> str:
    """The course of the units, in a few words."""
    of_units = f"{units:,} units at the start"
    closed = [at for at in map(_closed_at, channels.values()) if at is not None]
    if not closed:
        left = max(points[-1].quantity for points in channels.values())
        return f"{of_units}, {left:,} left at the end"
    first = f"{of_units}, the first channel closed at {clock(min(closed))}"
    reopened = any(points[-1].mode == "in_stock" for points in channels.values())
    return f"{first} and stock came back" if reopened and len(closed) == len(channels) else first


def _closed_at(points: Sequence[StockPoint]) -> float | None:
    """When the channel first left `in_stock`. Before the first receipt it has another mode."""
    modes = stretches(points, points[-1].at)
    return next((at for (_, _, before), (at, _, _) in pairwise(modes) if before == "in_stock"), None)


def _steps(place: int, name: str, points: Sequence[StockPoint], end: float) -> dict[str, Any]:
    kept = thinned(points)
    last = kept[-1]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escaped(plain_name(name)),
        "x": [round(point.at, 2) for point in kept] + ([round(end, 2)] if end > last.at else []),
        "y": [point.quantity for point in kept] + ([last.quantity] if end > last.at else []),
        "line": {
            "shape": "hv",
            "color": SERIES[place % len(SERIES)],
            "dash": LINE_DASHES[place % len(LINE_DASHES)],
            # Later lines are thinner, so that equal ones are all visible.
            "width": max(1.5, 5 - 1.2 * place),
        },
    }


def _strips(channels: Sequence[Sequence[StockPoint]], end: float) -> list[dict[str, Any]]:
    """A bar trace for each mode; a row for each channel, the first on top."""
    rows: dict[str, tuple[list[float], list[float], list[int]]] = {}
    for place, points in enumerate(channels):
        for at, lasted, mode in stretches(points, end)[:STRETCHES_PLOTTED_MAX]:
            bases, lengths, places = rows.setdefault(mode if mode in MODES else "", ([], [], []))
            bases.append(round(at, 2))
            lengths.append(round(lasted, 2))
            places.append(place)
    traces = []
    for mode in (*MODES, ""):
        bases, lengths, places = rows.get(mode, ([], [], []))
        if not places:
            continue
        title, colour, pattern = MODES.get(mode, UNKNOWN_MODE)
        fill = {"color": colour, "line": {"width": 0}}
        if pattern:
            fill["pattern"] = {
                "shape": pattern,
                "bgcolor": colour,
                "fgcolor": "var(--panel)",
                "size": 6,
                "solidity": 0.2,
            }
        trace = {"type": "bar", "orientation": "h", "name": title, "base": bases, "x": lengths, "y": places}
        traces.append(trace | {"yaxis": "y2", "marker": fill, "width": 0.72, "legend": "legend2"})
    return traces


def _layout(channels: Sequence[str], end: float) -> dict[str, Any]:
    names = [escaped(plain_name(name)) for name in channels]
    # The strips take what they need, the steps the rest.
    split = min(0.45, 0.08 * len(names) + 0.04)
    return {
        "barmode": "overlay",
        "xaxis": {**SECONDS_AXIS, "range": [0, end], "anchor": "y2"},
        "yaxis": {"title": {"text": "units on offer"}, "rangemode": "tozero", "domain": [split + 0.05, 1]},
        "yaxis2": {
            "domain": [0, split],
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        "legend2": {"orientation": "h", "x": 0, "y": -0.26, "yanchor": "top", "title": {"text": "mode "}},
    }
