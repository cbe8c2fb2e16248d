"""The state of a load test on a console, while it runs and at its end.

In: reports of the load workers, the monitor, the results. Out: snapshots for the live view; a summary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.measure.meter import SecondMeasurements, SecondMeter, latencies
from stocktide.loadtest.measure.results import Latencies, LoadTestResults, RunVerdict, encode
from stocktide.loadtest.report.formatting import changes_of, checks, limit_of, requirement_of
from stocktide.loadtest.report.live import RATES, LiveSnapshot, LiveView
from stocktide.loadtest.run.load_worker_process import LoadWorkerReport
from stocktide.loadtest.run.monitor import RunMonitor
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.run.warehouse import WarehouseSimulator
from stocktide.loadtest.workload.scenarios import Goods

# A rate covers so many updates of the view: about a second.
RATE_UPDATES = 2
# Lines of evidence that the console shows; the reports have all.
EVIDENCE_SHOWN_MAX = 12


class ProgressView:
    """Passes snapshots to the live view."""

    def __init__(
        self,
        options: FlashSaleOptions,
        goods: Goods,
        warehouses: WarehouseSimulator,
        monitor: RunMonitor,
        live: LiveView,
    ) -> None:
        self._options = options
        self._goods = goods
        self._warehouses = warehouses
        self._monitor = monitor
        self._live = live
        self._recent: deque[list[SecondMeasurements]] = deque(maxlen=RATE_UPDATES)
        self._totals: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_UPDATES + 1)

    def update(
        self, seconds: float, generators: Sequence[LoadWorkerReport], subscribers: LoadWorkerReport | None
    ) -> None:
        """Show the state at that time of the load."""
        if seconds < 0 or not self._options.live:
            return
        self._totals.append((seconds, {name: sum(each.totals.get(name, 0) for each in generators) for name in RATES}))
        reports = (*generators, *([subscribers] if subscribers else ()))
        self._recent.append([report.recent for report in reports if report.recent is not None])
        recent = [second for update in self._recent for second in update]
        answered, lag = _merge(recent, ("accepted", "refused")), _merge(recent, ("lag",))
        violations = self._monitor.violations
        self._live.update(
            LiveSnapshot(
                seconds=seconds,
                planned_seconds=self._options.seconds,
                rates={name: self._rate(name) for name in RATES},
                p50_ms=answered.p50,
                p99_ms=answered.p99,
                lag_p99_ms=lag.p99,
                in_flight=sum(each.in_flight for each in generators),
                violations=len(violations),
                first_violation=violations[0].what if violations else "",
                hot=tuple(
                    (sku, self._warehouses.available(sku), self._monitor.mode(sku)) for sku in self._goods.hot_skus
                ),
            )
        )

    def _rate(self, name: str) -> float:
        (before, earlier), (seconds, totals) = self._totals[0], self._totals[-1]
        return (totals[name] - earlier[name]) / (seconds - before) if seconds > before else 0.0


def write_reports(results: LoadTestResults, report_html: Path | None, report_json: Path | None) -> None:
    """Write the JSON and the page. Raises OSError."""
    if report_json is not None:
        report_json.write_bytes(encode(results))
    if report_html is not None:
        # A late import: jinja2.
        from stocktide.loadtest.report.page import write_page

        write_page(results, report_html)


def print_written(console: Console, *paths: Path | None) -> None:
    """Name the files that were written."""
    for path in paths:
        if path is not None:
            console.print(f"written: {path}", markup=False, soft_wrap=not console.is_terminal)


def show_results(results: LoadTestResults, console: Console) -> None:
    """Print a summary of the results."""
    totals, verdict = results.totals, results.verdict
    table = Table(title=f"load test: {results.settings['shape']}", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    orders = (f"{totals.get(name, 0):,} {name}" for name in RATES)
    table.add_row("orders", f"{', '.join(orders)} in {results.load_seconds:,.0f} s")
    table.add_row("accepted", _latency_text(results.accepted_ms))
    table.add_row("refused", _latency_text(results.refused_ms))
    received = f"subscribers received {totals.get('updates', 0):,} updates"
    table.add_row("lag", f"{_latency_text(results.lag_ms)}; {received}")
    if changes := changes_of(totals):
        table.add_row("changes", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in changes.items()))
    for step in results.ladder:
        kept = "kept the goal" if step["kept"] else "did not keep the goal"
        table.add_row(f"{step['rate']:,.0f}/s", f"p99 {step['p99']:,.1f} ms: {kept}")
    table.add_row("limit", limit_of(verdict))
    for why in verdict.why_invalid:
        table.add_row("not valid", Text(why), style="yellow")
    for note in verdict.notes:
        table.add_row("note", Text(note))
    console.print(table)
    _show_verdict(verdict, console)


def _show_verdict(verdict: RunVerdict, console: Console) -> None:
    table = Table(title="what was checked", title_justify="left")
    table.add_column("what has to hold", overflow="fold")
    table.add_column("checked", justify="right", no_wrap=True)
    table.add_column("violations", justify="right", no_wrap=True)
    for what, checked, broken in checks(verdict):
        table.add_row(
            Text(what),
            f"{checked:,}" if checked else "not checked",
            f"{broken:,}" if checked or broken else "",
            style="bold red" if broken else "",
        )
    console.print(table)
    if verdict.kept:
        invalid = "no promise was broken, but the run is not valid and proves nothing"
        console.print("no promise was broken" if verdict.valid else invalid, style="bold")
        return
    many = f"{len(verdict.violations):,} violation{'' if len(verdict.violations) == 1 else 's'}"
    console.print(f"a promise was broken: {many}; the first:", style="bold red")
    for violation in verdict.violations[:1]:
        for line in (
            f"promise {violation.promise} is broken, that {requirement_of(violation.checker)}:",
            f"  {violation.what}",
        ):
            console.print(line, markup=False, soft_wrap=not console.is_terminal)
        for line in violation.evidence[:EVIDENCE_SHOWN_MAX]:
            console.print(f"    {line}", markup=False, soft_wrap=True)


def _merge(seconds: Iterable[SecondMeasurements], kinds: tuple[str, ...]) -> Latencies:
    """Percentiles over several seconds and kinds."""
    total = SecondMeter()
    for second in seconds:
        total.add(second)
    found = [total.histograms[kind] for kind in kinds if kind in total.histograms]
    for other in found[1:]:
        found[0].add(other)
    return latencies(found[0]) if found else Latencies()


def _latency_text(found: Latencies) -> str:
    if not found.count:
        return "none"
    return (
        f"{found.count:,}, p50 {found.p50:,.1f} ms, p99 {found.p99:,.1f} ms, p99.9 {found.p999:,.1f} ms,"
        f" max {found.max:,.1f} ms"
    )
