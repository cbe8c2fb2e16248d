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

from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.report import text
from stocktide.loadtest.report.figures import Plot
from stocktide.loadtest.report.formatting import command_of, plain_name, value_text
from stocktide.loadtest.report.plots import plots_of

_LOADER = PackageLoader("stocktide.loadtest.report", "page_files")
_TEMPLATES = Environment(loader=_LOADER, autoescape=True, trim_blocks=True, undefined=StrictUndefined)


def write_page(results: LoadTestResults, path: Path) -> None:
    """Write the page of a run to `path`. Raises OSError where that cannot be written."""
    path.write_text(page_of(results), encoding="utf-8")


def page_of(results: LoadTestResults) -> str:
    """The page as HTML."""
    # A late import: 5 MB that only a report needs.
    from plotly.offline import get_plotlyjs

    plotly, script = get_plotlyjs(), _file("page.js")
    plots, settings = plots_of(results), results.settings
    return _TEMPLATES.get_template("page.html").render(
        policy=policy_of(plotly, script),
        style=_file("page.css"),
        shape=plain_name(str(settings.get("shape", "load"))),
        seconds=f"{results.load_seconds:,.0f}",
        started_at=results.started_at,
        verdict=text.verdict_text(results.verdict),
        cards=text.cards(results),
        plots=plots,
        tables=text.tables(results),
        has_errors=bool(results.errors),
        seconds_table=text.seconds_table(results.moments),
        seed=value_text(settings.get("seed")),
        command=command_of(settings),
        facts=(text.facts_table("Settings", settings), text.facts_table("Machine", results.machine)),
        data=embedded(plots),
        plotly=plotly,
        script=script,
    )


def policy_of(*scripts: str) -> str:
    """A policy that allows these scripts and forbids to load anything."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # plotly.js sets styles and makes images.
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def embedded(plots: Sequence[Plot]) -> str:
    """The plots as JSON that cannot end the element around it."""
    raw = msgspec.json.encode(plots).decode()
    for each in "<>&\u2028\u2029":
        raw = raw.replace(each, f"\\u{ord(each):04x}")
    return raw


def _file(name: str) -> str:
    return _LOADER.get_source(_TEMPLATES, name)[0]
