"""A channel's report as CSV and as a page, and scores as CSV.

In: documents. Out: CSV without formulas; HTML that is printed as it is, needs no other file, and runs no script.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from stocktide.api.csv_text import csv_bytes
from stocktide.api.reports.documents import ChannelReport, HealthScore

_REPORT_COLUMNS = ("day", "channel", "time_zone", "section", "measure", "value")
_SCORE_COLUMNS = ("day", "time_zone", "over", "part", "weight", "counted_weight", "value", "unit", "points")
# A page of the API that may load nothing, run nothing, and be shown nowhere else; its style is in it.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{channel}, {day} - Stocktide</title>
<style>
:root {{ color-scheme: light dark; --line: #c8ced6; --quiet: #57606a }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #3d444d; --quiet: #9aa4af }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem }}
p {{ color: var(--quiet); margin: .25rem 0 0 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem 0; text-align: left; font-weight: normal }}
td {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-left: 1rem }}
th {{ overflow-wrap: anywhere }}
@media print {{ body {{ margin: 0; max-width: none }} tr {{ break-inside: avoid }} h2 {{ break-after: avoid }} }}
</style>
</head>
<body>
<h1>{channel}</h1>
<p>{day} ({zone}){unfinished}</p>
{sections}
</body>
</html>
"""


def report_rows(report: ChannelReport) -> Iterator[tuple[str, str, int | float | None]]:
    """(section, measure, value), in the order in which they are shown."""
    yield "Orders", "orders", report.orders
    yield "Orders", "units", report.units
    yield "Orders", "accepted", report.accepted
    yield "Orders", "of those in part", report.partial
    yield "Orders", "rejected", report.rejected
    for reason, number in report.rejections.items():
        yield "Rejections by reason", reason, number
    yield "Waiting for stock", "preorders", report.preorders
    yield "Waiting for stock", "units preordered", report.preordered_units
    yield "Waiting for stock", "lines sold short", report.shorts
    yield "Waiting for stock", "units sold short", report.short_units
    for section, spread in (
        ("Order to journal, ms", report.decided_ms),
        ("Change of mode to publication, ms", report.published_ms),
    ):
        yield section, "number", spread.count
        yield section, "mean", spread.mean
        yield section, "50 % within", spread.p50
        yield section, "95 % within", spread.p95
        yield section, "largest", spread.max
    yield "Complaints", "reported", report.complaints


def report_csv(report: ChannelReport) -> bytes:
    """A channel's report."""
    head = (report.day, report.channel, report.time_zone)
    rows = ((*head, section, measure, _cell(value)) for section, measure, value in report_rows(report))
    return csv_bytes(_REPORT_COLUMNS, rows)


def report_page(report: ChannelReport) -> str:
    """A channel's report."""
    return _PAGE.format(
        channel=escape(report.channel),
        day=escape(report.day),
        zone=escape(report.time_zone),
        unfinished="" if report.over else ", so far",
        sections="\n".join(_sections(report)),
    )


def score_csv(scores: Iterable[HealthScore]) -> bytes:
    """Scores with their parts; the part `score` is the whole."""
    return csv_bytes(_SCORE_COLUMNS, (row for score in scores for row in _score_rows(score)))


def _score_rows(score: HealthScore) -> Iterator[tuple[str, ...]]:
    head = (score.day, score.time_zone, "yes" if score.over else "no")
    yield (*head, "score", "1", "1", "", "", _cell(score.score))
    for part in score.parts:
        numbers = (_cell(part.weight), _cell(part.counted_weight), _cell(part.value))
        yield (*head, part.name, *numbers, part.unit, _cell(part.points))


def _sections(report: ChannelReport) -> Iterator[str]:
    begun = ""
    rows: list[str] = []
    for section, measure, value in report_rows(report):
        if section != begun:
            if rows:
                yield _table(begun, rows)
            begun, rows = section, []
        shown = "no data" if value is None else f"{value:,}"
        rows.append(f'<tr><th scope="row">{escape(measure)}</th><td>{shown}</td></tr>')
    yield _table(begun, rows)


def _table(section: str, rows: Iterable[str]) -> str:
    return f"<h2>{escape(section)}</h2>\n<table>\n" + "\n".join(rows) + "\n</table>"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value}"
