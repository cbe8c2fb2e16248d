"""The comparison of two load tests, and its tables on a terminal.

In: two `LoadTestResults`. Out: a `Comparison`: rows of figures, and the reasons why the two are not comparable, if any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.measure.results import (
    BROKEN,
    INVALID,
    KEPT,
    Latencies,
    LoadTestResults,
)
from stocktide.loadtest.report.formatting import LIMIT_NAMES, printable, value_text

GROUPS = ("rate", "orders", "latency", "refused", "lag", "CPU, mean", "memory, most")
# Settings that comparable runs may differ in: another seed makes another plan with the same rates.
SETTINGS_OF_CHANCE = frozenset({"seed"})
# Properties of a machine that change within minutes.
MACHINE_OF_THE_MOMENT = frozenset({"load_before"})
# The same memory is reported a little differently from one boot to the next.
SAME_NUMBER_SHARE = 0.02
# With a higher load per core before the run, other work distorts the figures.
BUSY_LOAD_SHARE = 0.5
# Two runs of the same system differ by as much: a smaller change is neither better nor worse.
CHANGE_PERCENT_MIN = 10.0


class ComparisonRow(Struct, frozen=True):
    """One figure of both runs; None where a run has none. `more_is` is `better`, `worse` or `other`."""

    group: str
    name: str
    unit: str
    a: float | None
    b: float | None
    more_is: str

    @property
    def change_percent(self) -> float | None:
        """The change from a to b, in percent of a; None where it is undefined."""
        if self.a is None or self.b is None or self.a == 0:
            return 0.0 if self.a is not None and self.a == self.b else None
        return (self.b - self.a) / self.a * 100


class ComparedRun(Struct, frozen=True):
    """One of the runs: its file and its verdict."""

    file: str
    started_at: str
    kept: bool
    valid: bool
    limit: str
    violations: int
    first_violation: str
    why_invalid: tuple[str, ...]


class Comparison(Struct, frozen=True):
    """The comparison. `why_not`: the reasons why the figures are not comparable; empty where they are."""

    a: ComparedRun
    b: ComparedRun
    why_not: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, tuple[str, str]]
    machine: dict[str, tuple[str, str]]
    rows: tuple[ComparisonRow, ...]

    @property
    def comparable(self) -> bool:
        """Whether a difference between the figures is one of the system."""
        return not self.why_not

    @property
    def status(self) -> int:
        """1 where b broke a promise, 2 where a run is not valid, else 0."""
        if not self.b.kept:
            return BROKEN
        return KEPT if self.a.valid and self.b.valid else INVALID

    def as_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        plain = {"comparable": self.comparable, "status": self.status, **msgspec.to_builtins(self)}
        plain["rows"] = [{**msgspec.to_builtins(row), "change_percent": row.change_percent} for row in self.rows]
        return plain


def compare(a: LoadTestResults, b: LoadTestResults, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare b with the earlier a. `names` are those of their files."""
    settings, machine = _differences(a.settings, b.settings), _differences(a.machine, b.machine)
    for name in MACHINE_OF_THE_MOMENT:
        machine.pop(name, None)
    return Comparison(
        a=_side(a, names[0]),
        b=_side(b, names[1]),
        why_not=tuple(_why_not(a, b, settings, machine)),
        notes=tuple(_notes(a, b, settings)),
        settings=settings,
        machine=machine,
        rows=tuple(row for row in _rows(a, b) if row.a is not None or row.b is not None),
    )


def _side(results: LoadTestResults, file: str) -> ComparedRun:
    verdict = results.verdict
    first = verdict.violations[0].what if verdict.violations else ""
    why_invalid = () if verdict.valid else verdict.why_invalid or ("no reason was given",)
    fields = (verdict.kept, verdict.valid, verdict.limit, len(verdict.violations), first, why_invalid)
    return ComparedRun(file, results.started_at, *fields)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The differing values, by name, as text. A value that only one of the two has differs too."""

    def text_of(side: Mapping[str, Any], name: str) -> str:
        return value_text(side[name]) if name in side else "not told"

    names = [*a, *(name for name in b if name not in a)]
    return {
        name: (text_of(a, name), text_of(b, name))
        for name in names
        if name not in a or name not in b or not _is_same(a[name], b[name])
    }


def _is_same(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float) and max(abs(a), abs(b)) > 1_000_000:
        return abs(a - b) <= SAME_NUMBER_SHARE * max(abs(a), abs(b))
    return a == b


def _why_not(
    a: LoadTestResults, b: LoadTestResults, settings: Mapping[str, Any], machine: Mapping[str, Any]
) -> Iterator[str]:
    for name, results in (("A", a), ("B", b)):
        if not results.verdict.valid:
            yield f"{name} is not valid: {'; '.join(results.verdict.why_invalid) or 'no reason was given'}"
        if not results.verdict.kept:
            yield f"{name} broke a promise: its figures are not comparable"
    if machine:
        yield f"they ran on different machines: {_listed(machine)}"
    if others := {name: pair for name, pair in settings.items() if name not in SETTINGS_OF_CHANCE}:
        yield f"they ran with different settings: {_listed(others)}"


def _listed(differences: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name} {one} and {other}" for name, (one, other) in differences.items())


def _notes(a: LoadTestResults, b: LoadTestResults, settings: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if "seed" in settings:
        yield "the seeds differ: the two runs sent different orders"
    for name, results in (("A", a), ("B", b)):
        load, cores = results.machine.get("load_before"), results.machine.get("cores")
        if isinstance(load, int | float) and isinstance(cores, int) and load > BUSY_LOAD_SHARE * cores:
            yield f"the machine was busy before {name} began: its load average was {load:g} on {cores} cores"
        if results.verdict.limit == "tester":
            yield f"in {name} the load generator's machine was the limit: the system may carry more than it says"
    yield "two runs of the same system differ too: repeat both before you trust a small difference"


def _rows(a: LoadTestResults, b: LoadTestResults) -> Iterator[ComparisonRow]:
    of_a, of_b = ({figure[:4]: figure[4] for figure in _figures(results)} for results in (a, b))
    for figure in sorted(of_a | of_b, key=lambda figure: GROUPS.index(figure[0])):
        yield ComparisonRow(figure[0], figure[1], figure[2], of_a.get(figure), of_b.get(figure), figure[3])


def _figures(results: LoadTestResults) -> Iterator[tuple[str, str, str, str, float | None]]:
    """Of each figure: group, name, unit, what more is, value."""
    moments, load_seconds = results.moments, results.load_seconds

    def total(name: str) -> float:
        return float(sum(getattr(moment, name) for moment in moments))

    for name, more_is in (("scheduled", "other"), ("accepted", "better")):
        yield "rate", f"{name}, peak", "/s", more_is, float(max((getattr(one, name) for one in moments), default=0))
    yield "rate", "accepted, mean", "/s", "better", total("accepted") / load_seconds if load_seconds > 0 else None
    if results.ladder:
        kept = [float(step["rate"]) for step in results.ladder if step.get("kept")]
        yield "rate", "highest that kept the goal", "/s", "better", max(kept, default=None)
    for name, more_is in (("accepted", "better"), ("refused", "other"), ("failed", "worse"), ("late_sends", "worse")):
        yield "orders", name.replace("_", " "), "", more_is, total(name)
    for group, kind in (("latency", "accepted"), ("refused", "refused"), ("lag", "lag")):
        latencies: Latencies = getattr(results, f"{kind}_ms")
        for percentile, name in (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max")):
            value = float(getattr(latencies, percentile)) if latencies.count else None
            yield group, f"{kind} {name}", "ms", "worse", value
    for name in dict.fromkeys(use.name for use in results.processes):
        points = [point for use in results.processes if use.name == name for point in use.points]
        # The mean during the load.
        cpu = [point.cpu_percent for point in points if 0 <= point.at <= load_seconds]
        yield "CPU, mean", name, "%", "worse", fmean(cpu) if cpu else None
        most = max(point.memory_bytes for point in points) / 1e6 if points else None
        yield "memory, most", name, "MB", "worse", most


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        run = printable(f"{side.file}, {side.started_at}  ")
        _print(console, Text.assemble((f"{name}  ", "bold"), run, _verdict(side)))
    if comparison.why_not:
        _print(console, Text("The two are not comparable:", "bold yellow"))
        for why in comparison.why_not:
            _print(console, Text(f"  {printable(why)}", "yellow"))
    else:
        _print(console, Text("The two are comparable: the same settings on the same kind of machine.", "green"))
    for title, pairs in (("settings that differ", comparison.settings), ("machines that differ", comparison.machine)):
        if pairs:
            console.print(_pairs(title, pairs))
    console.print(_figures_table(comparison))
    for note in comparison.notes:
        _print(console, Text(f"note: {printable(note)}", "dim"))


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=not console.is_terminal, highlight=False)


def _verdict(side: ComparedRun) -> Text:
    if not side.kept:
        many = f"{side.violations:,} violation{'' if side.violations == 1 else 's'}"
        first = f", the first: {printable(side.first_violation)}" if side.first_violation else ""
        return Text(f"✗ promise broken, {many}{first}", "bold red")
    if not side.valid:
        return Text("? not valid", "bold yellow")
    return Text(f"✓ promises kept; limit: {printable(LIMIT_NAMES.get(side.limit, side.limit))}", "bold green")


def _pairs(title: str, pairs: dict[str, tuple[str, str]]) -> Table:
    """A line for each run, so that a long value has most of the width."""
    table = Table()
    table.add_column(title, no_wrap=True)
    table.add_column("run", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, (one, other) in pairs.items():
        table.add_row(Text(printable(name.replace("_", " "))), "A", Text(printable(one)))
        table.add_row("", "B", Text(printable(other)))
    return table


def _figures_table(comparison: Comparison) -> Table:
    table = Table()
    table.add_column("figures", overflow="fold")
    for head in ("A", "B", "B − A"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    group = ""
    for row in comparison.rows:
        if group and row.group != group:
            table.add_section()
        group = row.group
        word, style = _word(row) if comparison.comparable else ("", "")
        name = f"{row.group}: {row.name}" if row.group[:3] in ("CPU", "mem") else row.name
        table.add_row(
            Text(printable(name)), _number(row.a, row.unit), _number(row.b, row.unit), _change(row), Text(word, style)
        )
    return table


def _word(row: ComparisonRow) -> tuple[str, str]:
    """`better` or `worse` and a style, where the change is large enough."""
    change = row.change_percent
    grew_from_nothing = change is None and row.a == 0 and bool(row.b)
    if row.more_is == "other" or not (grew_from_nothing or (change is not None and abs(change) >= CHANGE_PERCENT_MIN)):
        return "", ""
    grew = grew_from_nothing or (change is not None and change > 0)
    return ("better", "green") if grew == (row.more_is == "better") else ("worse", "red")


def _change(row: ComparisonRow) -> str:
    change = row.change_percent
    return "" if change is None else f"{change:+,.1f} %" if change else "same"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    digits = 0 if unit in ("", "MB", "/s") or value >= 1_000 else 1
    gap = "" if unit.startswith("/") or not unit else " "
    return f"{value:,.{digits}f}{gap}{unit}"
