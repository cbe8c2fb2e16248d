"""The page of a load test: one HTML file that asks nothing of any network.

In: `LoadTestResults`. Out: a file: the verdict first, then the figures, the plots, the tables, and how to repeat the
run.

The page forbids itself by a Content-Security-Policy to load anything, and to run any script but its own two, which it
names by their digests: a name from the run that were to slip through as markup could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import msgspec

from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.report.figures import Plot
from stocktide.loadtest.report.formatting import command_of, plain_name, value_text
from stocktide.loadtest.report.plots import plots_of
from stocktide.loadtest.report.text import (
    STATES,
    checked_table,
    errors_table,
    facts_table,
    figures_section,
    ladder_table,
    seconds_table,
    state_of,
    table,
    text,
    verdict_section,
)

_FOLDER = files("stocktide.loadtest.report") / "page_files"


def write_page(results: LoadTestResults, path: Path) -> None:
    """Write the page of a run to `path`. Raises OSError where that cannot be written."""
    path.write_text(page_of(results), encoding="utf-8")


def page_of(results: LoadTestResults) -> str:
    """The page, whole."""
    # Loaded late: 5 MB that only a report needs.
    from plotly.offline import get_plotlyjs

    plotly, script = get_plotlyjs(), _part("page.js")
    plots = plots_of(results)
    symbol, word = STATES[state_of(results.verdict)]
    shape = plain_name(str(results.settings.get("shape", "load")))
    return Template(_part("page.html")).substitute(
        policy=policy_of(plotly, script),
        title=text(f"{symbol} {word}: {shape} load test"),
        heading=text(f"Load test: {shape}, {results.load_seconds:,.0f} s"),
        subtitle=text(f"started {results.started_at}"),
        style=_part("page.css"),
        verdict=verdict_section(results.verdict),
        figures=figures_section(results),
        plots="".join(_figure(plot) for plot in plots),
        tables="".join(_tables(results)),
        seconds=seconds_table(results.moments),
        seed=text(f"The seed was {value_text(results.settings.get('seed'))}: the same seed makes the same plan."),
        command=text(command_of(results.settings)),
        facts=facts_table("Settings", results.settings) + facts_table("Machine", results.machine),
        data=embedded(plots),
        plotly=plotly,
        script=script,
    )


def policy_of(*scripts: str) -> str:
    """A policy that lets these scripts run and nothing be loaded."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Plots are styled by plotly.js itself, and pictures are those that it makes.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def embedded(plots: Sequence[Plot]) -> str:
    """The plots as JSON that cannot end the element that it stands in."""
    raw = msgspec.json.encode(plots).decode()
    for each in "<>&\u2028\u2029":
        raw = raw.replace(each, f"\\u{ord(each):04x}")
    return raw


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _figure(plot: Plot) -> str:
    title, caption = text(plot.title), text(plot.caption)
    return (
        f'<figure aria-labelledby="title-{plot.name}"><h3 id="title-{plot.name}">{title}</h3>'
        f"<figcaption>{caption}</figcaption>"
        f'<div class="plot" id="plot-{plot.name}" role="img" aria-label="{title}" '
        f'style="min-height:{plot.height}px"></div></figure>'
    )


def _tables(results: LoadTestResults) -> list[str]:
    parts = [checked_table(results.verdict), errors_table(results), ladder_table(results)]
    if results.totals:
        sums = [(name.replace("_", " "), f"{count:,}") for name, count in results.totals.items()]
        parts.append(table("Sums", ("what", "count"), sums, numbers={1}))
    return [part for part in parts if part]
