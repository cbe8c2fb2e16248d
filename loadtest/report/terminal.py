"""How a load test stands, while it runs and at its end.

In: reports of the testers, what the onlooker has seen, and in the end the results. Out: snapshots for the live view,
and a few lines on the console.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.measure.meter import SecondMeasurements, SecondMeter, latencies
from stocktide.loadtest.measure.results import Latencies, LoadTestResults
from stocktide.loadtest.report.live import LiveSnapshot, LiveView
from stocktide.loadtest.report.verdict_text import checks, holds, limit_of
from stocktide.loadtest.run.monitor import RunMonitor
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.run.process_messages import LoadWorkerReport
from stocktide.loadtest.run.warehouse import WarehouseSimulator
from stocktide.loadtest.workload.scenarios import Goods

# Rates are taken over so many updates of the view: about a second.
RATE_UPDATES = 2
# Lines of evidence of the first violation that the console shows; the reports have all.
EVIDENCE_SHOWN_MAX = 12
RATES = ("scheduled", "accepted", "refused", "failed")


class ProgressView:
    """Feeds the live view, unless nobody wants it."""

    def __init__(
        self, options: FlashSaleOptions, goods: Goods, floor: WarehouseSimulator, onlooker: RunMonitor, console: Console
    ) -> None:
        self._options = options
        self._goods = goods
        self._floor = floor
        self._onlooker = onlooker
        self._live = LiveView(console) if options.live else None
        self._recent: deque[list[SecondMeasurements]] = deque(maxlen=RATE_UPDATES)
        self._counted: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_UPDATES + 1)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def update(self, seconds: float, pushers: Sequence[LoadWorkerReport], crowd: LoadWorkerReport | None) -> None:
        """Show how it stands at that time of the load."""
        if self._live is None or seconds < 0:
            return
        self._counted.append((seconds, {name: sum(each.totals.get(name, 0) for each in pushers) for name in RATES}))
        fresh = [report.recent for report in (*pushers, *([crowd] if crowd else ())) if report.recent is not None]
        self._recent.append(fresh)
        recent = [second for seconds in self._recent for second in seconds]
        answered, lag = _together(recent, ("accepted", "refused")), _together(recent, ("lag",))
        violations = self._onlooker.violations
        self._live.update(
            LiveSnapshot(
                seconds=seconds,
                planned_seconds=self._options.seconds,
                **{f"rate_{name}": self._rate(name) for name in RATES},
                p50_ms=answered.p50,
                p99_ms=answered.p99,
                lag_p99_ms=lag.p99,
                in_flight=sum(each.in_flight for each in pushers),
                violations=len(violations),
                first_violation=violations[0].what if violations else "",
                hot=tuple((sku, self._floor.left(sku), self._onlooker.mode(sku)) for sku in self._goods.hot_skus),
            )
        )

    def _rate(self, name: str) -> float:
        (before, then), (seconds, now) = self._counted[0], self._counted[-1]
        return (now[name] - then[name]) / (seconds - before) if seconds > before else 0.0

    @staticmethod
    def show(found: LoadTestResults, console: Console) -> None:
        """The end, in short."""
        totals, verdict = found.totals, found.verdict
        table = Table(title=f"load test: {found.settings['shape']}", show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        orders = (f"{totals.get(name, 0):,} {name}" for name in RATES)
        table.add_row("orders", f"{', '.join(orders)} in {found.load_seconds:,.0f} s")
        table.add_row("accepted", _told(found.accepted_ms))
        table.add_row("refused", _told(found.refused_ms))
        table.add_row("lag", f"{_told(found.lag_ms)}; subscribers received {totals.get('updates', 0):,} updates")
        for step in found.ladder:
            kept = "kept the goal" if step["kept"] else "did not keep the goal"
            table.add_row(f"{step['rate']:,.0f}/s", f"p99 {step['p99']:,.1f} ms: {kept}")
        table.add_row("limit", limit_of(verdict))
        for why in verdict.why_invalid:
            table.add_row("not valid", Text(why), style="yellow")
        for note in verdict.notes:
            table.add_row("note", Text(note))
        console.print(table)
        _judgement(found, console)


def _judgement(found: LoadTestResults, console: Console) -> None:
    verdict = found.verdict
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
        for line in (f"promise {violation.promise} is broken, that {holds(violation.checker)}:", f"  {violation.what}"):
            console.print(line, markup=False, soft_wrap=not console.is_terminal)
        for line in violation.evidence[:EVIDENCE_SHOWN_MAX]:
            console.print(f"    {line}", markup=False, soft_wrap=True)


def _together(seconds: Iterable[SecondMeasurements], kinds: tuple[str, ...]) -> Latencies:
    """Over all of them, of several kinds."""
    total = SecondMeter()
    for second in seconds:
        total.add(second)
    found = [total.histograms[kind] for kind in kinds if kind in total.histograms]
    for other in found[1:]:
        found[0].add(other)
    return latencies(found[0]) if found else Latencies()


def _told(found: Latencies) -> str:
    if not found.count:
        return "none"
    return (
        f"{found.count:,}, p50 {found.p50:,.1f} ms, p99 {found.p99:,.1f} ms, p99.9 {found.p999:,.1f} ms,"
        f" max {found.max:,.1f} ms"
    )
