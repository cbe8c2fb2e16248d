"""The plots of a load test's page, as plain figures for plotly.js.

In: `LoadTestResults`. Out: `Plot`s, each with a title that states the result, a caption, data and layout. Colours are
names of the page's style sheet, written `var(--name)`, which the page replaces by those of the reader's colour scheme.
Names of the run are escaped, because plotly.js reads texts as markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from stocktide.loadtest.measure.results import Latencies, LoadTestResults, ProcessUsage, SecondSummary
from stocktide.loadtest.report.formatting import clock, milliseconds, plain_name

SECONDS_AXIS = {"title": {"text": "seconds since the start of the load"}, "rangemode": "tozero"}
LINE_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
# Reasons with a colour of their own; more cannot be told apart, and the table has them all.
REASONS_PLOTTED_MAX = 6
# Processes with a line of their own.
PROCESSES_PLOTTED_MAX = 10
# With a larger factor between highest and lowest value the scale is logarithmic.
LINEAR_SPAN_MAX = 20.0
# With more decades, ticks between 1 and 10 would overlap.
FINE_DECADES_MAX = 3
PERCENTILE_DASHES = ("solid", "solid", "dash", "dot")


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


def rates(moments: Sequence[SecondSummary]) -> Plot | None:
    """Orders by the second: scheduled, accepted, refused, failed."""
    if not moments:
        return None
    best = max(moments, key=lambda moment: moment.accepted)
    asked = max(moment.scheduled for moment in moments)
    series: list[tuple[str, str, str, Callable[[SecondSummary], int]]] = [
        ("scheduled", "var(--soft)", "dot", lambda moment: moment.scheduled),
        ("accepted", "var(--good)", "solid", lambda moment: moment.accepted),
        ("refused", "var(--warn)", "dash", lambda moment: moment.refused),
        ("failed", "var(--bad)", "dashdot", lambda moment: moment.failed),
    ]
    if any(moment.late_sends for moment in moments):
        series.append(
            ("sent late by the load generator", "var(--series-3)", "longdash", lambda moment: moment.late_sends)
        )
    at = [moment.at for moment in moments]
    return Plot(
        name="rate",
        title=f"At most {best.accepted:,} orders/s were accepted, at {clock(best.at)}; {asked:,}/s were scheduled",
        caption="Orders by the second for which they were scheduled. Refused: the system said no (sold out, for"
        " example); failed: no answer, or an error.",
        data=[line(name, at, [of(moment) for moment in moments], colour, dash) for name, colour, dash, of in series],
        layout={"xaxis": SECONDS_AXIS, "yaxis": {"title": {"text": "orders per second"}, "rangemode": "tozero"}},
    )


def latencies(
    name: str, what: str, caption: str, moments: Sequence[SecondSummary], of: Callable[[SecondSummary], Latencies]
) -> Plot | None:
    """Percentiles by the second. A second without values is a gap."""
    seen = [moment for moment in moments if of(moment).count]
    if not seen:
        return None
    at = [moment.at for moment in moments]
    percentiles: list[tuple[str, Callable[[Latencies], float]]] = [
        ("p50", lambda one: one.p50),
        ("p99", lambda one: one.p99),
        ("p99.9", lambda one: one.p999),
        ("max", lambda one: one.max),
    ]
    data = []
    for number, (percentile, value) in enumerate(percentiles):
        values = [value(of(moment)) if of(moment).count else None for moment in moments]
        width = 1.2 if percentile == "max" else 2
        data.append(line(percentile, at, values, SERIES[number], PERCENTILE_DASHES[number], gaps=True, width=width))
    worst = max(seen, key=lambda moment: of(moment).p99)
    drawn = [value for line in data for value in line["y"] if value]
    return Plot(
        name=name,
        title=f"{what}: p99 at most {milliseconds(of(worst).p99)}, at {clock(worst.at)}",
        caption=caption,
        data=data,
        layout={"xaxis": SECONDS_AXIS, "yaxis": _ms_axis(drawn)},
    )


def errors(results: LoadTestResults) -> Plot | None:
    """Failures by reason, stacked by the second."""
    totals = dict(sorted(results.errors.items(), key=lambda item: -item[1]))
    if not any(moment.errors for moment in results.moments):
        return None
    shown = list(totals)[:REASONS_PLOTTED_MAX] if totals else []
    at = [moment.at for moment in results.moments]
    data = [
        bars(plain_name(reason), at, [moment.errors.get(reason, 0) for moment in results.moments], SERIES[number])
        for number, reason in enumerate(shown)
    ]
    rest = [sum(count for reason, count in moment.errors.items() if reason not in shown) for moment in results.moments]
    if any(rest):
        data.append(bars("all others", at, rest, "var(--soft)"))
    count = sum(sum(moment.errors.values()) for moment in results.moments)
    most = f", most often {shown[0]}" if shown else ""
    return Plot(
        name="errors",
        title=f"{count:,} errors{most}",
        caption="Errors by reason and second; the table below has the sums.",
        data=data,
        layout={
            "barmode": "stack",
            "xaxis": SECONDS_AXIS,
            "yaxis": {"title": {"text": "errors per second"}, "rangemode": "tozero"},
        },
        height=300,
    )


def processes(what: str, uses: Iterable[ProcessUsage]) -> Plot | None:
    """CPU or memory of every process over time."""
    shown = [use for use in uses if use.points][:PROCESSES_PLOTTED_MAX]
    if not shown:
        return None
    of_cpu = what == "cpu"
    data = []
    for number, use in enumerate(shown):
        values = [round(point.cpu_percent, 1) if of_cpu else point.memory_bytes / 1e6 for point in use.points]
        # Several processes may have one name.
        alone = sum(other.name == use.name for other in shown) == 1
        name = plain_name(use.name) if alone else f"{plain_name(use.name)} ({use.pid})"
        at = [round(point.at, 2) for point in use.points]
        data.append(line(name, at, values, SERIES[number % len(SERIES)], LINE_DASHES[number // len(SERIES)]))
    top = max(zip(data, shown, strict=True), key=lambda pair: max(pair[0]["y"]))
    peak = max(top[0]["y"])
    if of_cpu:
        title = f"{top[1].name} used the most CPU: {peak:,.0f} % of a core"
        axis = {"title": {"text": "CPU, % of one core"}, "rangemode": "tozero"}
    else:
        title = f"{top[1].name} held the most memory: {peak:,.0f} MB"
        axis = {"title": {"text": "resident memory, MB"}, "rangemode": "tozero"}
    caption = "By process; 100 % is one core busy all the time." if of_cpu else "By process; 1 MB is 1,000,000 bytes."
    return Plot(
        name=what, title=title, caption=caption, data=data, layout={"xaxis": SECONDS_AXIS, "yaxis": axis}, height=320
    )


def ladder(results: LoadTestResults) -> Plot | None:
    """The steps of a rate search: p99 by rate, kept or missed."""
    steps = [(step["rate"], step["p99"], step["kept"]) for step in results.ladder]
    if not steps:
        return None
    best = max((rate for rate, _, kept in steps if kept), default=None)
    goal = results.settings.get("goal_ms")
    data = []
    for kept, name, colour, symbol in (
        (True, "kept the goal", "var(--good)", "circle"),
        (False, "missed it", "var(--bad)", "x"),
    ):
        points = sorted((rate, p99) for rate, p99, did in steps if did is kept)
        marker = {"color": colour, "symbol": symbol, "size": 11}
        x, y = [rate for rate, _ in points], [p99 for _, p99 in points]
        data.append({"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, "marker": marker})
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "orders per second scheduled"}, "rangemode": "tozero"},
        "yaxis": _ms_axis([p99 for _, p99, _ in steps if p99]),
    }
    if isinstance(goal, int | float) and goal > 0:
        across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": goal, "y1": goal}
        layout["shapes"] = [{**across, "line": {"color": "var(--soft)", "dash": "dot", "width": 2}}]
    found = f"The highest rate that kept the goal: {best:,.0f} orders/s" if best else "No rate kept the goal"
    of_goal = f" The dotted line is the goal of {goal:g} ms." if "shapes" in layout else ""
    caption = f"p99 of all answers at each rate that was tried. A rate with failures misses the goal too.{of_goal}"
    return Plot(name="ladder", title=found, caption=caption, data=data, layout=layout, hover="closest")


def _ms_axis(values: Sequence[float]) -> dict[str, Any]:
    positive = [value for value in values if value > 0]
    if positive and max(positive) / min(positive) > LINEAR_SPAN_MAX:
        ticks = _log_ticks(min(positive), max(positive))
        texts = [f"{tick:,g}" for tick in ticks]
        return {"title": {"text": "ms (log scale)"}, "type": "log", "tickvals": ticks, "ticktext": texts}
    return {"title": {"text": "ms"}, "rangemode": "tozero"}


def _log_ticks(lowest: float, highest: float) -> list[float]:
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    digits = (1, 2, 5) if last - first <= FINE_DECADES_MAX else (1,)
    return [digit * 10.0**decade for decade in range(first, last + 1) for digit in digits]
