"""What is counted and measured, by the second: HdrHistograms of several processes become one, exactly.

In: answers and updates, each with the second in which it was scheduled or seen. Out: a `Measurements` of a process,
which travels as JSON; and `MergedMeasurements`, which adds parts up and tells `Latencies`. Values are recorded in µs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from stocktide.loadtest.measure.results import Latencies, SecondSummary

# A request ends, answered or not, well within a minute; three digits tell 1.000 ms from 1.001 ms.
HIGHEST_US = 60_000_000
DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)

LatencyKind = Literal["accepted", "refused", "lag"]
KINDS: tuple[LatencyKind, ...] = ("accepted", "refused", "lag")


class SecondMeasurements(Struct):
    """A second of one process: counts by name, errors by reason, histograms by kind as hdrh writes them."""

    at: int
    counts: dict[str, int]
    errors: dict[str, int]
    histograms: dict[str, bytes]


class Measurements(Struct):
    """What one process has measured: its seconds, and counts of the whole."""

    seconds: list[SecondMeasurements]
    totals: dict[str, int]
    refusals: dict[str, int]


def histogram() -> HdrHistogram:
    """An empty one."""
    return HdrHistogram(1, HIGHEST_US, DIGITS)


def record(into: HdrHistogram, seconds: float) -> None:
    """Record a time; less than nothing is nothing, more than the highest is the highest."""
    into.record_value(min(max(int(seconds * 1e6), 1), HIGHEST_US))


def latencies(of: HdrHistogram) -> Latencies:
    """Its percentiles, ms."""
    count = of.get_total_count()
    if not count:
        return Latencies()
    values = of.get_percentile_to_value_dict(list(PERCENTILES))
    p50, p90, p99, p999 = (round(values[percentile] / 1000, 3) for percentile in PERCENTILES)
    return Latencies(count, p50, p90, p99, p999, round(of.get_max_value() / 1000, 3))


class SecondMeter:
    """One second, while it is filled."""

    __slots__ = ("counts", "errors", "histograms")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.histograms: dict[str, HdrHistogram] = {}

    def record(self, kind: LatencyKind, seconds: float) -> None:
        """One answer or update of that kind took so long."""
        found = self.histograms.get(kind)
        if found is None:
            found = self.histograms[kind] = histogram()
        record(found, seconds)

    def add(self, part: SecondMeasurements) -> None:
        """Add what another process has measured of the same second."""
        self.counts.update(part.counts)
        self.errors.update(part.errors)
        for kind, raw in part.histograms.items():
            if kind not in self.histograms:
                self.histograms[kind] = histogram()
            self.histograms[kind].decode_and_add(raw)

    def part(self, at: int) -> SecondMeasurements:
        """To travel."""
        raw = {kind: bytes(found.encode()) for kind, found in self.histograms.items()}
        return SecondMeasurements(at, dict(self.counts), dict(self.errors), raw)

    def moment(self, at: int) -> SecondSummary:
        """As the results tell it."""
        counts = self.counts
        told = {kind: latencies(self.histograms[kind]) for kind in self.histograms}
        return SecondSummary(
            at,
            scheduled=counts["scheduled"],
            accepted=counts["accepted"],
            refused=counts["refused"],
            failed=counts["failed"],
            late_sends=counts["late_sends"],
            accepted_ms=told.get("accepted", Latencies()),
            refused_ms=told.get("refused", Latencies()),
            lag_ms=told.get("lag", Latencies()),
            updates=counts["updates"],
            errors=dict(self.errors.most_common()),
        )


class LoadMeter:
    """What one process measures, second by second."""

    def __init__(self) -> None:
        self.seconds: dict[int, SecondMeter] = {}
        self.totals: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._recent = SecondMeter()

    def record(self, kind: LatencyKind, at: float, seconds: float) -> None:
        """An answer or update took so long; it belongs to the second of `at`."""
        self.second(at).record(kind, seconds)
        self._recent.record(kind, seconds)

    def recent(self, at: float) -> SecondMeasurements:
        """What was recorded since this was asked last, whatever second it belongs to: for a view."""
        recent, self._recent = self._recent, SecondMeter()
        return recent.part(int(at))

    def second(self, at: float) -> SecondMeter:
        """The second of a time, s since the start of the load; what comes before counts as its first."""
        number = max(0, int(at))
        found = self.seconds.get(number)
        if found is None:
            found = self.seconds[number] = SecondMeter()
        return found

    def count(self, at: float, name: str) -> None:
        """Count something in its second and in the whole."""
        self.second(at).counts[name] += 1
        self.totals[name] += 1

    def fail(self, at: float, reason: str) -> None:
        """An order that was neither accepted nor refused."""
        self.count(at, "failed")
        self.second(at).errors[reason] += 1

    def part(self) -> Measurements:
        """All of it, to travel."""
        seconds = [second.part(at) for at, second in sorted(self.seconds.items())]
        return Measurements(seconds, dict(self.totals), dict(self.refusals))


class MergedMeasurements:
    """The parts of all processes, added up."""

    def __init__(self, parts: Iterable[Measurements] = ()) -> None:
        self._seconds: dict[int, SecondMeter] = {}
        self.totals: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        for part in parts:
            self.add(part)

    def add(self, part: Measurements) -> None:
        """Add one."""
        self.totals.update(part.totals)
        self.refusals.update(part.refusals)
        for second in part.seconds:
            self._seconds.setdefault(second.at, SecondMeter()).add(second)
            self.errors.update(second.errors)

    def latencies(self, *kinds: LatencyKind, seconds: range | None = None) -> Latencies:
        """Over the whole run or some seconds of it, of one kind or several together."""
        total = histogram()
        for at, second in self._seconds.items():
            for kind in kinds:
                if kind in second.histograms and (seconds is None or at in seconds):
                    total.add(second.histograms[kind])
        return latencies(total)

    def count(self, name: str, seconds: range) -> int:
        """How often something was counted in some seconds."""
        return sum(second.counts[name] for at, second in self._seconds.items() if at in seconds)

    def moments(self) -> tuple[SecondSummary, ...]:
        """Every second from the first to the last one that has anything."""
        return tuple(
            self._seconds[at].moment(at) if at in self._seconds else SecondSummary(at)
            for at in range(max(self._seconds, default=-1) + 1)
        )
