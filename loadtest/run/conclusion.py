"""The conclusion of a run: the oracle's verdict, what limited the rate, and whether the run is valid.

In: a run and its history, or their file. Out: the `LoadTestResults`, with the `RunVerdict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import msgspec

from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.measure.results import (
    FORMAT,
    LoadTestResults,
    ProcessUsage,
    ReportedViolation,
    RunVerdict,
    decode,
)
from stocktide.loadtest.oracle import verdict as oracle
from stocktide.loadtest.oracle.channels import FEED_LAG_MS_MAX
from stocktide.loadtest.oracle.judge import HistorySource, judge
from stocktide.loadtest.run.load_generator import LATE_SECONDS, VERY_LATE_SECONDS, WAITING_MAX
from stocktide.loadtest.run.run_file import LINE_BYTES_MAX, MAGIC, RecordedRun, RunArchive, RunFileError

# After a reconnect a feed may show a state as old as this multiple of the largest measured lag: an overloaded system is
# slow, which is measured, and breaks no promise by it.
LAG_MULTIPLE_MAX = 2

# With more late sends, the measurement is that of the load generator.
LATE_SHARE_MAX = 0.01
# With more very late sends, the load was not the one that was asked for.
VERY_LATE_SHARE_MAX = 0.05
# A Python process uses one core at most; at this share of it, it is saturated.
GENERATOR_CPU_PERCENT_MAX = 90.0
# With more failures the system is at its limit.
FAILED_SHARE_MAX = 0.005


def results_of(run: RecordedRun, history: HistorySource) -> LoadTestResults:
    """Judge a run."""
    measured = LoadMeter(run.parts)
    lag_ms = max(FEED_LAG_MS_MAX, int(LAG_MULTIPLE_MAX * measured.latencies("lag").max))
    judged = judge(history, behind_ms=lag_ms)
    moments, load_seconds = measured.summaries(), run.load_seconds
    if run.settings["shape"] == "file":
        # A file may end before `seconds` have passed.
        load_seconds = min(load_seconds, max((second.at + 1 for second in moments if second.scheduled), default=0))
    return LoadTestResults(
        settings=run.settings,
        machine=run.machine,
        started_at=run.started_at,
        load_seconds=round(load_seconds, 3),
        verdict=conclude(judged, measured, run.processes, run.settings["goal_ms"], run.unquiet, run.notes),
        totals={**measured.totals, **{f"refused.{name}": count for name, count in measured.refusals.most_common()}},
        accepted_ms=measured.latencies("accepted"),
        refused_ms=measured.latencies("refused"),
        lag_ms=measured.latencies("lag"),
        moments=moments,
        hot=run.hot,
        processes=run.processes,
        errors=dict(measured.errors.most_common()),
        ladder=run.ladder,
    )


def judge_file(path: Path) -> LoadTestResults:
    """Judge the run in a file. Raises RunFileError."""
    file = RunArchive(path)
    return results_of(file.run(), file.history)


def read_results(path: Path) -> LoadTestResults:
    """The results in a JSON report, or those of a run, which is judged. Raises RunFileError."""
    try:
        with path.open("rb") as file:
            if (raw := file.read(len(MAGIC))) == MAGIC:
                return judge_file(path)
            raw += file.read(LINE_BYTES_MAX)
        results = decode(raw)
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} is no report of a load test: {error}") from error
    if results.format != FORMAT:
        raise RunFileError(f"{path} has format {results.format}, and this program reads format {FORMAT}")
    return results


def conclude(
    judged: oracle.Verdict,
    measured: LoadMeter,
    processes: Sequence[ProcessUsage],
    goal_ms: float,
    unquiet: str = "",
    notes: Sequence[str] = (),
) -> RunVerdict:
    """The verdict of a run. `unquiet`: why the system did not become quiet; empty where it did."""
    busy = list(_generator_limits(measured, processes))
    slow = list(_system_limits(measured, goal_ms))
    invalid = [*([unquiet] if unquiet else []), *judged.invalid, *_empty_checkers(judged), *_invalid_load(measured)]
    return RunVerdict(
        kept=not judged.broken,
        valid=not invalid,
        limit="tester" if busy else "system" if slow else "none",
        checked={part.checker: sum(part.looked.values()) for part in judged.checked},
        violations=tuple(_reported(part, violation) for part in judged.checked for violation in part.violations),
        why_invalid=tuple(invalid),
        notes=(*busy, *slow, *notes),
    )


def _generator_limits(measured: LoadMeter, processes: Sequence[ProcessUsage]) -> Iterator[str]:
    late, scheduled = measured.totals["late_sends"], measured.totals["scheduled"]
    if late > LATE_SHARE_MAX * scheduled:
        yield (
            f"the load generator sent {late:,} of {scheduled:,} orders more than {LATE_SECONDS * 1000:.0f} ms late:"
            " latencies include that lateness"
        )
    for use in processes:
        if use.name.startswith("tester") and use.points:
            busy = median(point.cpu_percent for point in use.points)
            if busy > GENERATOR_CPU_PERCENT_MAX:
                yield f"{use.name} of the load generator used {busy:.0f} % of a core: more --processes may send more"


def _system_limits(measured: LoadMeter, goal_ms: float) -> Iterator[str]:
    failed, scheduled = measured.totals["failed"], measured.totals["scheduled"]
    if failed > FAILED_SHARE_MAX * scheduled:
        yield f"{failed:,} of {scheduled:,} orders were neither accepted nor refused"
    if waited := measured.errors["too many wait"]:
        yield f"{waited:,} orders were not sent, because {WAITING_MAX:,} waited for an answer"
    answered = measured.latencies("accepted", "refused")
    if answered.p99 > goal_ms:
        yield f"p99 of all answers was {answered.p99:,.1f} ms, above the goal of {goal_ms:g} ms"


def _empty_checkers(judged: oracle.Verdict) -> Iterator[str]:
    for part in judged.checked:
        if part.empty:
            yield f"the checker {part.checker} had nothing to check"


def _invalid_load(measured: LoadMeter) -> Iterator[str]:
    late, scheduled = measured.totals["very_late_sends"], measured.totals["scheduled"]
    if not scheduled:
        yield "no order was sent"
    elif late > VERY_LATE_SHARE_MAX * scheduled:
        yield (
            f"the load generator sent {late:,} of {scheduled:,} orders more than {VERY_LATE_SECONDS * 1000:.0f} ms"
            " late: the load was not the one that was asked for"
        )
    if scheduled and not measured.totals["accepted"] and not measured.totals["refused"]:
        yield "no order was answered"


def _reported(part: oracle.CheckerResult, found: oracle.Violation) -> ReportedViolation:
    evidence = tuple(msgspec.json.encode(record).decode() for record in found.evidence)
    return ReportedViolation(part.checker, part.promise, found.what, evidence)
