"""The comparison of two load tests.

In: two `LoadTestResults`. Out: a `Comparison`: rows of figures, and the reasons why the two are not comparable, if any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.loadtest.measure.results import (
    BROKEN,
    INVALID,
    KEPT,
    Latencies,
    LoadTestResults,
    ProcessUsage,
    SecondSummary,
)
from stocktide.loadtest.report.formatting import value_text

# Settings that comparable runs may differ in: another seed makes another plan with the same rates.
SETTINGS_OF_CHANCE = frozenset({"seed"})
# Properties of a machine that change within minutes.
MACHINE_OF_THE_MOMENT = frozenset({"load_before"})
# The same memory is reported a little differently from one boot to the next.
SAME_NUMBER_SHARE = 0.02
# With a higher load per core before the run, other work distorts the figures.
BUSY_LOAD_SHARE = 0.5


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
    def row(
        group: str, name: str, unit: str, more_is: str, of: Callable[[LoadTestResults], float | None]
    ) -> ComparisonRow:
        return ComparisonRow(group, name, unit, of(a), of(b), more_is)

    yield row("rate", "scheduled, peak", "/s", "other", lambda one: _peak(one, "scheduled"))
    yield row("rate", "accepted, peak", "/s", "better", lambda one: _peak(one, "accepted"))
    yield row("rate", "accepted, mean", "/s", "better", _mean)
    if a.ladder or b.ladder:
        yield row("rate", "highest that kept the goal", "/s", "better", _highest_kept)
    for name, more_is in (("accepted", "better"), ("refused", "other"), ("failed", "worse"), ("late_sends", "worse")):
        yield row("orders", name.replace("_", " "), "", more_is, _total(name))
    for kind in ("accepted", "refused", "lag"):
        for percentile in ("p50", "p90", "p99", "p999", "max"):
            name = "p99.9" if percentile == "p999" else percentile
            of = _percentile(f"{kind}_ms", percentile)
            yield row("latency" if kind == "accepted" else kind, f"{kind} {name}", "ms", "worse", of)
    for name in dict.fromkeys(use.name for results in (a, b) for use in results.processes):
        yield row("CPU, mean", name, "%", "worse", _cpu(name))
    for name in dict.fromkeys(use.name for results in (a, b) for use in results.processes):
        yield row("memory, most", name, "MB", "worse", _memory(name))


def _peak(results: LoadTestResults, name: str) -> float:
    return float(max((getattr(moment, name) for moment in results.moments), default=0))


def _mean(results: LoadTestResults) -> float | None:
    return _sum(results.moments, "accepted") / results.load_seconds if results.load_seconds > 0 else None


def _total(name: str) -> Callable[[LoadTestResults], float]:
    return lambda results: _sum(results.moments, name)


def _sum(moments: tuple[SecondSummary, ...], name: str) -> float:
    return float(sum(getattr(moment, name) for moment in moments))


def _highest_kept(results: LoadTestResults) -> float | None:
    return max((float(step["rate"]) for step in results.ladder if step.get("kept")), default=None)


def _percentile(kind: str, percentile: str) -> Callable[[LoadTestResults], float | None]:
    def of(results: LoadTestResults) -> float | None:
        latencies: Latencies = getattr(results, kind)
        return float(getattr(latencies, percentile)) if latencies.count else None

    return of


def _cpu(name: str) -> Callable[[LoadTestResults], float | None]:
    """The mean during the load."""

    def of(results: LoadTestResults) -> float | None:
        uses = _of_name(results, name)
        during = [point.cpu_percent for use in uses for point in use.points if 0 <= point.at <= results.load_seconds]
        return fmean(during) if during else None

    return of


def _memory(name: str) -> Callable[[LoadTestResults], float | None]:
    def of(results: LoadTestResults) -> float | None:
        most = [point.memory_bytes for use in _of_name(results, name) for point in use.points]
        return max(most) / 1e6 if most else None

    return of


def _of_name(results: LoadTestResults, name: str) -> list[ProcessUsage]:
    return [use for use in results.processes if use.name == name]
