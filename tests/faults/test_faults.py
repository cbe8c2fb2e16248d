"""The system under load and faults keeps its promises: a short run in the gate, long ones in `make soak`.

`STOCKTIDE_SOAK_SECONDS` and `STOCKTIDE_SOAK_SEED` change the long run. Reports go to `soak-reports/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.faults.cluster import ClusterOptions
from tests.faults.edge_scenarios import FULL
from tests.faults.faults import select_faults, unavailable_reason
from tests.faults.load import ScenarioRates
from tests.faults.report import FaultReport, run_and_judge, write_report
from tests.faults.run import FaultRunOptions

SHORT_SEED = 11
SHORT = ("kill_worker_between_read_and_settle", "lose_tail_of_redis")
SOAK_SECONDS = 1_800.0
SOAK_SEED = 20_261_124
# A run of half an hour goes on until it has injected as many: on two cores a fault takes about eight seconds, most of
# it recovery.
SOAK_FAULTS_MIN, SOAK_OVERTIME_SECONDS_MAX = 300, 900.0
# Hundreds of faults in half an hour: the next one follows soon after the system answers again.
SOAK_PAUSE_SECONDS_MAX = 0.5
# Longer than the payments of the long run precede their orders.
PARK_SECONDS_FULL = 130
REPORTS = Path("soak-reports")
# The duration of a run beside its load and its overtime: start, quiescence, a hundred thousand reads, judging.
AROUND_SECONDS_MAX = 840.0


async def run(options: FaultRunOptions, name: str) -> FaultReport:
    seconds_max = options.seconds + options.overtime_seconds_max + AROUND_SECONDS_MAX
    report = await run_and_judge(options, write_line, seconds_max)
    write_report(report, REPORTS / f"{name}.json")
    return report


def write_line(line: str) -> None:
    """Write to the captured output, which a failure shows."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def soak_seconds(most: float = float("inf")) -> float:
    return min(most, float(os.environ.get("STOCKTIDE_SOAK_SECONDS", SOAK_SECONDS)))


def soak_seed() -> int:
    return int(os.environ.get("STOCKTIDE_SOAK_SEED", SOAK_SEED))


async def test_promises_are_kept_through_a_few_faults(tmp_path: Path) -> None:
    options = FaultRunOptions(
        folder=tmp_path,
        seconds=8,
        seed=SHORT_SEED,
        faults=select_faults(SHORT),
        strikes_min=len(SHORT),
        # A small load, so that a gate on two cores carries it.
        rates=ScenarioRates(orders=8, wide=0.1, large=0.2, early=0.3, skewed=0.3),
        shape=ClusterOptions(replica=False),
    )
    report = await run(options, "short")
    assert report.passed, "see the report above"
    assert {row.name: row.failed for row in report.faults} == dict.fromkeys(SHORT, 0)


@pytest.mark.soak
@pytest.mark.parametrize("apart", [False, True], ids=["all", "apart"])
async def test_promises_are_kept_through_hundreds_of_faults(tmp_path: Path, apart: bool) -> None:
    shape = ClusterOptions(park_seconds=PARK_SECONDS_FULL, apart=apart)
    faults = [fault for fault in select_faults(()) if unavailable_reason(fault, shape) is None]
    options = FaultRunOptions(
        folder=tmp_path,
        seconds=soak_seconds(),
        seed=soak_seed(),
        faults=faults,
        strikes_min=SOAK_FAULTS_MIN if soak_seconds() >= SOAK_SECONDS else 0,
        overtime_seconds_max=SOAK_OVERTIME_SECONDS_MAX,
        pause_seconds_max=SOAK_PAUSE_SECONDS_MAX,
        rates=ScenarioRates(wide=0.1, breadth=FULL),
        shape=shape,
    )
    report = await run(options, "long-apart" if apart else "long")
    assert report.passed, "see the report above"
    if options.seconds >= SOAK_SECONDS:
        assert report.injected >= SOAK_FAULTS_MIN and report.commands >= 500_000


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "seconds", "faults", "shape"),
    [
        ("three-brokers", 240, ("kill_kafka", "stop_kafka", "kill_worker", "kill_api"), ClusterOptions(brokers=3)),
        pytest.param(
            *("full-disk", 120, ("fill_disk_of_kafka", "kill_worker"), ClusterOptions(disk_mb=2_000)),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the broker a disk of its own"),
        ),
    ],
)
async def test_promises_are_kept_by_other_brokers(
    tmp_path: Path, name: str, seconds: float, faults: tuple[str, ...], shape: ClusterOptions
) -> None:
    options = FaultRunOptions(
        folder=tmp_path,
        seconds=soak_seconds(seconds),
        seed=soak_seed(),
        faults=select_faults(faults),
        strikes_min=len(faults),
        rates=ScenarioRates(orders=60),
        shape=shape,
    )
    report = await run(options, name)
    assert report.passed, "see the report above"
