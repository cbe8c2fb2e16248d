"""Counts and latencies by the second, in HdrHistograms that merge exactly across processes.

In: responses and updates, each with the second in which it was scheduled or received. Out: the `Measurements` of a
process, which are sent as JSON and merged. Values are recorded in µs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from stocktide.loadtest.measure.results import Latencies, SecondSummary

# A request ends within a minute; three digits distinguish 1.000 ms from 1.001 ms.
HIGHEST_US = 60_000_000
DIGITS = 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)

LatencyKind = Literal["accepted", "refused", "lag"]


class SecondMeasurements(Struct):
    """A second of one process: counts by name, errors by reason, encoded histograms by kind."""

    at: int
    counts: dict[str, int]
    errors: dict[str, int]
    histograms: dict[str, bytes]


class Measurements(Struct):
    """All measurements of one process: its seconds, and totals."""

    seconds: list[SecondMeasurements]
    totals: dict[str, int]
    refusals: dict[str, int]


def histogram() -> HdrHistogram:
    """An empty histogram."""
    return HdrHistogram(1, HIGHEST_US, DIGITS)


def latencies(of: HdrHistogram) -> Latencies:
    """The percentiles of a histogram, ms."""
    count = of.get_total_count()
    if not count:
        return Latencies()
    values = of.get_percentile_to_value_dict(list(PERCENTILES))
    p50, p90, p99, p999 = (round(values[percentile] / 1000, 3) for percentile in PERCENTILES)
    return Latencies(count, p50, p90, p99, p999, round(of.get_max_value() / 1000, 3))


class SecondMeter:
    """The measurements of one second."""

    __slots__ = ("counts", "errors", "histograms")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.histograms: dict[str, HdrHistogram] = defaultdict(histogram)

    def record(self, kind: LatencyKind, seconds: float) -> None:
        """Record the time of one response or update."""
        self.histograms[kind].record_value(min(max(int(seconds * 1e6), 1), HIGHEST_US))

    def add(self, part: SecondMeasurements) -> None:
        """Add another process's measurements of the same second."""
        self.counts.update(part.counts)
        self.errors.update(part.errors)
        for kind, raw in part.histograms.items():
            self.histograms[kind].decode_and_add(raw)

    def part(self, at: int) -> SecondMeasurements:
        """The second in encoded form."""
        raw = {kind: bytes(found.encode()) for kind, found in self.histograms.items()}
        return SecondMeasurements(at, dict(self.counts), dict(self.errors), raw)

    def summary(self, at: int) -> SecondSummary:
        """The second as the results hold it."""
        counts = self.counts
        by_kind = {kind: latencies(self.histograms[kind]) for kind in self.histograms}
        return SecondSummary(
            at,
            scheduled=counts["scheduled"],
            accepted=counts["accepted"],
            refused=counts["refused"],
            failed=counts["failed"],
            late_sends=counts["late_sends"],
            accepted_ms=by_kind.get("accepted", Latencies()),
            refused_ms=by_kind.get("refused", Latencies()),
            lag_ms=by_kind.get("lag", Latencies()),
            updates=counts["updates"],
            errors=dict(self.errors.most_common()),
        )


class LoadMeter:
    """The measurements of one process, second by second, or those of several together."""

    def __init__(self, parts: Iterable[Measurements] = ()) -> None:
        self.seconds: dict[int, SecondMeter] = defaultdict(SecondMeter)
        self.totals: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._recent = SecondMeter()
        for part in parts:
            self.add(part)

    @property
    def errors(self) -> Counter[str]:
        """All errors by reason."""
        return sum((second.errors for second in self.seconds.values()), Counter[str]())

    def add(self, part: Measurements) -> None:
        """Add the measurements of another process."""
        self.totals.update(part.totals)
        self.refusals.update(part.refusals)
        for second in part.seconds:
            self.second(second.at).add(second)

    def record(self, kind: LatencyKind, at: float, seconds: float) -> None:
        """Record the time of a response or update in the second of `at`."""
        self.second(at).record(kind, seconds)
        self._recent.record(kind, seconds)

    def recent(self, at: float) -> SecondMeasurements:
        """The measurements since the last call, whatever second they belong to."""
        recent, self._recent = self._recent, SecondMeter()
        return recent.part(int(at))

    def second(self, at: float) -> SecondMeter:
        """The second of a time, s since the start of the load; earlier times belong to the first."""
        return self.seconds[max(0, int(at))]

    def count(self, at: float, name: str) -> None:
        """Count in the second of `at` and in the totals."""
        self.second(at).counts[name] += 1
        self.totals[name] += 1

    def fail(self, at: float, reason: str) -> None:
        """Count an order that was neither accepted nor refused."""
        self.count(at, "failed")
        self.second(at).errors[reason] += 1

    def part(self) -> Measurements:
        """All measurements in encoded form."""
        seconds = [second.part(at) for at, second in sorted(self.seconds.items())]
        return Measurements(seconds, dict(self.totals), dict(self.refusals))

    def latencies(self, *kinds: LatencyKind, seconds: range | None = None) -> Latencies:
        """Percentiles over the whole run, or some seconds of it, of one kind or several together."""
        total = histogram()
        for at, second in self.seconds.items():
            for kind in kinds:
                if kind in second.histograms and (seconds is None or at in seconds):
                    total.add(second.histograms[kind])
        return latencies(total)

    def counted(self, name: str, seconds: range) -> int:
        """A count over some seconds."""
        return sum(second.counts[name] for at, second in self.seconds.items() if at in seconds)

    def summaries(self) -> tuple[SecondSummary, ...]:
        """Every second up to the last one with measurements."""
        return tuple(
            self.seconds[at].summary(at) if at in self.seconds else SecondSummary(at)
            for at in range(max(self.seconds, default=-1) + 1)
        )
