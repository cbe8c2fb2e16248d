"""The report of a run: faults, load, downtime, verdict; as text, and as JSON for the table of reliability.

In: the options of a run, or its `FaultRunResult`. Out: a `FaultReport`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.loadtest.oracle.history import read_history
from stocktide.loadtest.oracle.judge import judge
from stocktide.loadtest.oracle.verdict import Verdict
from tests.faults.faults import FAULTS
from tests.faults.result import FaultRunResult, InjectedFault
from tests.faults.run import FaultInjectionRun, FaultRunOptions, WriteLine

# The effect of a fault may begin a little late: at the next request.
AFTER_SECONDS = 1.0
# Statuses shown.
STATUSES_SHOWN_MAX = 40


class FaultRow(Struct, frozen=True):
    """The injections of one fault. `down_*`: seconds without an answer to a write around it; `failed` were not injected
    as planned."""

    name: str
    about: str
    promises: tuple[int, ...]
    times: int
    failed: int
    down_p50: float
    down_p99: float
    why_failed: str = ""


class FaultReport(Struct, frozen=True):
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
        return sum(row.times for row in self.faults)

    @property
    def passed(self) -> bool:
        """Whether the run proves that every promise was kept."""
        return bool(self.verdict["ok"]) and not self.unquiet and not self.failures


async def run_and_judge(
    options: FaultRunOptions, write_line: WriteLine, seconds_max: float | None = None
) -> FaultReport:
    """Run, judge the history, and print the report. Raises TimeoutError if the run takes longer than `seconds_max`."""
    async with asyncio.timeout(seconds_max):
        result = await FaultInjectionRun(options, write_line).run()
    verdict = judge(partial(read_history, result.history), park_ms=result.park_seconds * 1000, recorded_live=True)
    report = build_report(result, verdict)
    for line in render_lines(report):
        write_line(line)
    return report


def build_report(result: FaultRunResult, verdict: Verdict) -> FaultReport:
    by_name: dict[str, list[InjectedFault]] = defaultdict(list)
    for injected in sorted(result.injected, key=lambda each: each.name):
        by_name[injected.name].append(injected)
    downtimes = [longest_downtime(result.answered_at, each) for each in result.injected if each.completed]
    same = ("seed", "commands", "rows", "unquiet")
    counted = ("doors", "kinds", "statuses", "ends")
    return FaultReport(
        load_seconds=round(result.load_seconds, 1),
        rest_seconds=round(result.rest_seconds, 1),
        faults=tuple(_row(name, group, result.answered_at) for name, group in by_name.items()),
        down_p50=percentile(downtimes, 0.5),
        down_p99=percentile(downtimes, 0.99),
        failures=tuple(result.failures),
        verdict=verdict.as_json(),
        verdict_lines=tuple(verdict.lines()),
        **{name: getattr(result, name) for name in same},
        **{name: dict(getattr(result, name).most_common()) for name in counted},
    )


def _row(name: str, group: Sequence[InjectedFault], answered_at: Sequence[float]) -> FaultRow:
    fault = next(fault for fault in FAULTS if fault.name == name)
    downtimes = [longest_downtime(answered_at, each) for each in group if each.completed]
    return FaultRow(
        name,
        fault.about,
        fault.promises,
        len(downtimes),
        len(group) - len(downtimes),
        percentile(downtimes, 0.5),
        percentile(downtimes, 0.99),
        next((each.failed for each in group if each.failed), ""),
    )


def longest_downtime(answered_at: Sequence[float], injected: InjectedFault) -> float:
    """The longest time without an answer that overlaps the fault (s)."""
    begin = max(0, bisect_left(answered_at, injected.began) - 1)
    longest = 0.0
    for at in range(begin, len(answered_at) - 1):
        if answered_at[at] > injected.ended + AFTER_SECONDS:
            break
        longest = max(longest, answered_at[at + 1] - answered_at[at])
    return longest


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 for no values."""
    if not values:
        return 0.0
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)], 2)


def write_report(report: FaultReport, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


def load_report(file: Path) -> FaultReport:
    return msgspec.json.decode(file.read_bytes(), type=FaultReport)


def render_lines(report: FaultReport) -> Iterator[str]:
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
