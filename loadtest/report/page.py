"""The page of a load test: one HTML file that loads nothing from a network.

In: `LoadTestResults`. Out: a file: the verdict, the figures, the plots, the tables, the command that repeats the run.

Its Content-Security-Policy forbids to load anything and to run any script but its own two, which it names by their
digests: markup in a name of the run could do nothing even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from stocktide.loadtest.measure.results import LoadTestResults, SecondSummary
from stocktide.loadtest.report import plots
from stocktide.loadtest.report.formatting import (
    changes_of,
    checks,
    clock,
    command_of,
    limit_of,
    milliseconds,
    plain_name,
    requirement_of,
    size_text,
    sums_of,
    value_text,
)
from stocktide.loadtest.report.hot_skus import hot_plots
from stocktide.loadtest.report.plots import SECONDS_AXIS, Plot

# A broken run may have one violation for each order; the JSON report has more.
VIOLATIONS_SHOWN_MAX = 20
# Of long evidence, its beginning and its end, where the violation is.
EVIDENCE_FIRST_MAX = 4
EVIDENCE_LAST_MAX = 8
# A record may hold every SKU of a channel.
EVIDENCE_CHARACTERS_MAX = 360
# A row for each second of ten minutes; a longer run shows every second, third, ... row.
SECOND_ROWS_MAX = 600
REASONS_SHOWN_MAX = 50
# The end of the load is marked only where the plot continues for longer.
BEYOND_SECONDS_MIN = 2.0

PROMISES = {
    1: "No oversell",
    2: "An answer stands",
    3: "Once",
    4: "Every hold ends",
    5: "Channels converge",
    6: "Bad input gets a reason",
    7: "The log explains",
}
# The gravest violations: a name, the checkers, their promise.
_GRAVEST = (
    ("Oversold", ("oversold",), 1),
    ("Answers lost or contradicted", ("answer_lost", "answer_contradicted"), 2),
    ("Updates lost or out of order", ("channel_not_converged", "version_went_back"), 5),
)
_LATENCY = "Latency of accepted orders, from the time for which they were scheduled."
_LAG = "Publication lag, from an update's own time (as_of) to its receipt by a subscriber."
_LOADER = PackageLoader("stocktide.loadtest.report", "page_files")


def write_page(results: LoadTestResults, path: Path) -> None:
    """Write the page of a run to `path`. Raises OSError where that cannot be written."""
    path.write_text(page_of(results), encoding="utf-8")


def page_of(results: LoadTestResults) -> str:
    """The page as HTML."""
    # A late import: 5 MB that only a report needs.
    from plotly.offline import get_plotlyjs

    plotly, script = get_plotlyjs(), _file("page.js")
    drawn, verdict = plots_of(results), results.verdict
    return _TEMPLATES.get_template("page.html").render(
        results=results,
        best=max(results.moments, key=lambda moment: moment.accepted, default=SecondSummary(0)),
        checks=checks(verdict),
        gravest=[
            (
                name,
                sum(verdict.checked.get(checker, 0) for checker in checkers),
                sum(one.promise == promise or one.checker in checkers for one in verdict.violations),
            )
            for name, checkers, promise in _GRAVEST
        ],
        errors=sorted(results.errors.items(), key=lambda item: -item[1]),
        changes=changes_of(results.totals),
        sums=sums_of(results.totals),
        limit=limit_of(verdict),
        promises=PROMISES,
        violations_max=VIOLATIONS_SHOWN_MAX,
        reasons_max=REASONS_SHOWN_MAX,
        seconds_max=SECOND_ROWS_MAX,
        command=command_of(results.settings),
        plots=drawn,
        data=embedded(drawn),
        policy=policy_of(plotly, script),
        style=_file("page.css"),
        plotly=plotly,
        script=script,
    )


def plots_of(results: LoadTestResults) -> list[Plot]:
    """The plots for which this run has data, in the order of the page."""
    moments = results.moments
    made: list[Plot | None] = [
        plots.ladder(results),
        plots.rates(moments),
        plots.latencies("latency", "Accepted orders", _LATENCY, moments, lambda moment: moment.accepted_ms),
        *hot_plots(results.hot, results.load_seconds),
        plots.latencies("lag", "From a change to its update", _LAG, moments, lambda moment: moment.lag_ms),
        plots.errors(results),
        plots.processes("cpu", results.processes),
        plots.processes("memory", results.processes),
    ]
    drawn = [plot for plot in made if plot is not None]
    for plot in drawn:
        _mark_end(plot, results.load_seconds)
    return drawn


def _mark_end(plot: Plot, load_seconds: float) -> None:
    """Mark the end of the load in a plot that continues after it."""
    last = max((trace["x"][-1] for trace in plot.data if trace.get("orientation") != "h" and trace["x"]), default=0)
    if plot.layout["xaxis"]["title"] != SECONDS_AXIS["title"] or last < load_seconds + BEYOND_SECONDS_MIN:
        return
    across = {"type": "line", "x0": load_seconds, "x1": load_seconds, "yref": "paper", "y0": 0, "y1": 1}
    plot.layout["shapes"] = [{**across, "line": {"color": "var(--soft)", "dash": "dot", "width": 1.5}}]
    # Above the plot; the legend moves up.
    text = {"text": "the load ended", "showarrow": False, "yanchor": "bottom", "font": {"color": "var(--soft)"}}
    plot.layout["annotations"] = [{**text, "x": load_seconds, "yref": "paper", "y": 1}]
    plot.layout["legend"] = {"y": 1.1}


def policy_of(*scripts: str) -> str:
    """A policy that allows these scripts and forbids to load anything."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # plotly.js sets styles and makes images.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def embedded(drawn: Sequence[Plot]) -> str:
    """The plots as JSON that cannot end the element around it."""
    raw = msgspec.json.encode(drawn).decode()
    for each in "<>&\u2028\u2029":
        raw = raw.replace(each, f"\\u{ord(each):04x}")
    return raw


def _evidence(lines: Sequence[str]) -> str:
    """The lines that are shown, and the count of the others."""
    shown = [
        line
        if len(line) <= EVIDENCE_CHARACTERS_MAX
        else f"{line[:EVIDENCE_CHARACTERS_MAX]}… ({len(line):,} characters)"
        for line in lines
    ]
    if (rest := len(shown) - EVIDENCE_FIRST_MAX - EVIDENCE_LAST_MAX) > 0:
        shown[EVIDENCE_FIRST_MAX:-EVIDENCE_LAST_MAX] = [f"… {rest:,} more lines are in the JSON report …"]
    return "\n".join(shown)


def _file(name: str) -> str:
    return _LOADER.get_source(_TEMPLATES, name)[0]


_TEMPLATES = Environment(loader=_LOADER, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
_TEMPLATES.filters |= {
    "number": "{:,}".format,
    "ms": milliseconds,
    "clock": clock,
    "size": size_text,
    "value_text": value_text,
    "plain_name": plain_name,
    "requirement": requirement_of,
    "evidence": _evidence,
}
