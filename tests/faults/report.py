"""The report of a run: faults, load, downtime, verdict; as text for a person, as JSON for the table of reliability.

In: an `FaultRunResult` and the history that it names. Out: a `FaultReport`.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.loadtest.oracle.judge import judge
from stocktide.loadtest.oracle.verdict import Verdict
from tests.faults.faults import FAULTS
from tests.faults.run import FaultRunResult, InjectedFault

# After a fault was healed its effect may begin a little late: a request that was under way.
AFTER_SECONDS = 1.0
# Of answers by status, so many are shown.
STATUSES_SHOWN_MAX = 40


class FaultRow(Struct, frozen=True):
    """A fault over a run. `down_*` are s without any answer to a write around it; `failed` were not done as planned."""

    name: str
    about: str
    promises: tuple[int, ...]
    times: int
    failed: int
    down_p50: float
    down_p99: float
    why_failed: str = ""


class FaultReport(Struct, frozen=True):
    """A run, told."""

    seed: int
    load_seconds: float
    rest_seconds: float
    commands: int
    rows: int
    doors: dict[str, int]
    kinds: dict[str, int]
    statuses: dict[str, int]
    faults: tuple[FaultRow, ...]
    down_p50: float
    down_p99: float
    ends: dict[str, int]
    unquiet: str
    failures: tuple[str, ...]
    verdict: Any
    verdict_lines: tuple[str, ...]

    @property
    def injected(self) -> int:
        """Faults that were done."""
        return sum(row.times for row in self.faults)

    @property
    def passed(self) -> bool:
        """Whether the run proves that every promise was kept."""
        return bool(self.verdict["ok"]) and not self.unquiet and not self.failures


def judged(account: FaultRunResult) -> FaultReport:
    """Judge a run by its history, and sum it up."""
    return build_report(account, judge(account.history, park_ms=account.park_seconds * 1000, recorded_live=True))


def build_report(account: FaultRunResult, verdict: Verdict) -> FaultReport:
    """Sum a run up."""
    downtimes = {id(struck): longest_downtime(account.answered_at, struck) for struck in account.struck}
    done = [struck for struck in account.struck if struck.ended and not struck.failed]
    everything = [downtimes[id(struck)] for struck in done]
    return FaultReport(
        account.seed,
        round(account.load_seconds, 1),
        round(account.rest_seconds, 1),
        account.commands,
        account.rows,
        dict(account.doors.most_common()),
        dict(account.kinds.most_common()),
        dict(account.statuses.most_common()),
        tuple(_row(name, list(group), downtimes) for name, group in _by_name(account.struck)),
        percentile(everything, 0.5),
        percentile(everything, 0.99),
        dict(account.ends.most_common()),
        account.unquiet,
        tuple(account.failures),
        verdict.as_json(),
        tuple(verdict.lines()),
    )


def _by_name(struck: Sequence[InjectedFault]) -> Iterator[tuple[str, Iterator[InjectedFault]]]:
    return itertools.groupby(sorted(struck, key=lambda one: one.name), key=lambda one: one.name)


def _row(name: str, struck: list[InjectedFault], downtimes: dict[int, float]) -> FaultRow:
    fault = next(fault for fault in FAULTS if fault.name == name)
    done = [downtimes[id(one)] for one in struck if one.ended and not one.failed]
    why = next((one.failed for one in struck if one.failed), "")
    return FaultRow(
        name,
        fault.about,
        fault.promises,
        len(done),
        len(struck) - len(done),
        percentile(done, 0.5),
        percentile(done, 0.99),
        why,
    )


def longest_downtime(answered_at: Sequence[float], struck: InjectedFault) -> float:
    """The longest time without an answer that lies, in part at least, between the fault and its healing (s)."""
    begin = max(0, bisect_left(answered_at, struck.began) - 1)
    longest = 0.0
    for at in range(begin, len(answered_at) - 1):
        if answered_at[at] > struck.ended + AFTER_SECONDS:
            break
        longest = max(longest, answered_at[at + 1] - answered_at[at])
    return longest


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, 0 where there are none."""
    if not values:
        return 0.0
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)], 2)


def write(report: FaultReport, file: Path) -> None:
    """Write it as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def load(file: Path) -> FaultReport:
    """Read it back."""
    return msgspec.json.decode(file.read_bytes(), type=FaultReport)


def render_lines(report: FaultReport) -> Iterator[str]:
    """The report as a person reads it."""
    yield ""
    yield f"seed {report.seed}: {report.commands:,} commands in {report.load_seconds:,.0f} s, {report.rows:,} rows seen"
    yield "by door: " + ", ".join(f"{door} {count:,}" for door, count in report.doors.items())
    yield "by kind: " + ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items())
    yield "answers: " + ", ".join(
        f"{status}: {count:,}" for status, count in itertools.islice(report.statuses.items(), STATUSES_SHOWN_MAX)
    )
    yield "ends of processes: " + ", ".join(f"{end}: {count}" for end, count in report.ends.items())
    yield ""
    yield f"{'fault':<36} {'times':>5} {'failed':>6} {'down p50':>9} {'down p99':>9}"
    for row in report.faults:
        down = f"{row.down_p50:>7.2f} s {row.down_p99:>7.2f} s"
        yield f"{row.name:<36} {row.times:>5} {row.failed:>6} {down}  {row.why_failed}"
    yield f"{'all':<36} {report.injected:>5} {'':>6} {report.down_p50:>7.2f} s {report.down_p99:>7.2f} s"
    yield ""
    yield from report.verdict_lines
    if report.unquiet:
        yield f"the system did not come to rest: {report.unquiet}"
    for failure in report.failures:
        yield f"the load failed: {failure}"
    yield "every promise was kept" if report.passed else "NOT PROVED: see above"
