"""What a run means: the oracle's verdict, what limited the rate, and whether the run says what it seems to say.

In: the judgement, what was measured, what processes used. Out: the `RunVerdict` of the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec

from stocktide.loadtest.measure.meter import MergedMeasurements
from stocktide.loadtest.measure.results import ProcessUsage, ReportedViolation, RunVerdict
from stocktide.loadtest.oracle import verdict as oracle
from stocktide.loadtest.run.load_generator import LATE_SECONDS, VERY_LATE_SECONDS, WAITING_MAX

# More sends of the tester's own that leave late, and it is the tester that is measured.
LATE_SHARE_MAX = 0.01
# So many that leave very late, and the load was not the one that was asked for.
VERY_LATE_SHARE_MAX = 0.05
# A process of Python has one core: at this much of it, most of the time, it can do no more.
TESTER_CPU_PERCENT_MAX = 90.0
# A system that fails more often than this is at its limit.
FAILED_SHARE_MAX = 0.005

PROMISES = {
    "oversold": 1,
    "answer_contradicted": 2,
    "answer_lost": 2,
    "counted_twice": 3,
    "hold_ended_twice": 4,
    "hold_leaked": 4,
    "version_went_back": 5,
    "channel_not_converged": 5,
    "input_unaccounted": 6,
    "log_does_not_explain": 7,
}


def conclude(
    judged: oracle.Verdict,
    whole: MergedMeasurements,
    processes: Sequence[ProcessUsage],
    goal_ms: float,
    unquiet: str = "",
    notes: Sequence[str] = (),
) -> RunVerdict:
    """The verdict of a run. `unquiet`: why it did not come to rest; empty where it did."""
    busy = list(_tester_limits(whole, processes))
    slow = list(_system_limits(whole, goal_ms))
    invalid = [*([unquiet] if unquiet else []), *judged.invalid, *_never_looked(judged), *_grave(whole)]
    return RunVerdict(
        kept=not judged.broken,
        valid=not invalid,
        limit="tester" if busy else "system" if slow else "none",
        checked={part.checker: sum(part.looked.values()) for part in judged.checked},
        violations=tuple(violation_of(violation) for part in judged.checked for violation in part.violations),
        why_invalid=tuple(invalid),
        notes=(*busy, *slow, *notes),
    )


def violation_of(violation: oracle.Violation) -> ReportedViolation:
    """A finding of the oracle as the results tell it."""
    evidence = tuple(msgspec.json.encode(record).decode() for record in violation.evidence)
    return ReportedViolation(violation.checker, PROMISES.get(violation.checker, 0), violation.what, evidence)


def _tester_limits(whole: MergedMeasurements, processes: Sequence[ProcessUsage]) -> Iterator[str]:
    late, scheduled = whole.totals["late_sends"], whole.totals["scheduled"]
    if late > LATE_SHARE_MAX * scheduled:
        yield (
            f"the load generator sent {late:,} of {scheduled:,} orders more than {LATE_SECONDS * 1000:.0f} ms late:"
            " latencies include that lateness"
        )
    for use in processes:
        if use.name.startswith("tester") and use.points:
            busy = median(point.cpu_percent for point in use.points)
            if busy > TESTER_CPU_PERCENT_MAX:
                yield f"{use.name} of the load generator used {busy:.0f} % of a core: more --processes may send more"


def _system_limits(whole: MergedMeasurements, goal_ms: float) -> Iterator[str]:
    failed, scheduled = whole.totals["failed"], whole.totals["scheduled"]
    if failed > FAILED_SHARE_MAX * scheduled:
        yield f"{failed:,} of {scheduled:,} orders were neither accepted nor refused"
    if waited := whole.errors["too many wait"]:
        yield f"{waited:,} orders were not sent, because {WAITING_MAX:,} waited for an answer"
    answered = whole.latencies("accepted", "refused")
    if answered.p99 > goal_ms:
        yield f"p99 of all answers was {answered.p99:,.1f} ms, above the goal of {goal_ms:g} ms"


def _never_looked(judged: oracle.Verdict) -> Iterator[str]:
    for part in judged.checked:
        if part.empty:
            yield f"the checker {part.checker} had nothing to check"


def _grave(whole: MergedMeasurements) -> Iterator[str]:
    late, scheduled = whole.totals["very_late_sends"], whole.totals["scheduled"]
    if not scheduled:
        yield "no order was sent"
    elif late > VERY_LATE_SHARE_MAX * scheduled:
        yield (
            f"the load generator sent {late:,} of {scheduled:,} orders more than {VERY_LATE_SECONDS * 1000:.0f} ms"
            " late: the load was not the one that was asked for"
        )
    if scheduled and not whole.totals["accepted"] and not whole.totals["refused"]:
        yield "no order was answered"
