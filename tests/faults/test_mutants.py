"""Each checker sees the product broken that it is there to see, and sees nothing in the same run of the product itself.

What caught whom goes to `soak-reports/mutants.json`, for the table of docs/reliability.md.
"""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from stocktide.loadtest.oracle.judge import CheckerSet
from tests.faults.cluster import ClusterOptions
from tests.faults.faults import chosen
from tests.faults.load import ScenarioRates
from tests.faults.mutant_results import MutantResult, note
from tests.faults.mutants import edited_files
from tests.faults.mutations import MUTANTS, Mutant
from tests.faults.plans import PLANS, MutantRunPlan
from tests.faults.report import FaultReport, judged, render_lines
from tests.faults.run import FaultInjectionRun, FaultRunOptions
from tests.faults.test_faults import AROUND_SECONDS_MAX, REPORTS, say

# More that is no event than a long run has: a short one is to see some beside events.
RATES = ScenarioRates(orders=70, noises=4)
LAUNCHED_SECONDS_MAX = 60
# What some mutants break hangs on a race of a few ms, which the faults make likely and not sure.
RUNS_MAX = 3


async def run(plan: MutantRunPlan, folder: Path, mutant: Mutant | None = None) -> FaultReport:
    """A plan on the product or on a mutant, judged and told."""
    launcher = ("stocktide",) if mutant is None else ("tests.faults.mutants", mutant.name, "--")
    options = FaultRunOptions(
        folder=folder,
        seconds=plan.seconds,
        seed=plan.seed,
        faults=chosen(plan.faults) if plan.faults else (),
        strikes_min=plan.strikes_min,
        rates=RATES,
        shape=ClusterOptions(replica=plan.replica, launcher=(sys.executable, "-m", *launcher)),
    )
    async with asyncio.timeout(options.seconds + AROUND_SECONDS_MAX):
        account = await FaultInjectionRun(options, say).go()
    report = judged(account)
    for line in render_lines(report):
        say(line)
    return report


def test_every_checker_has_a_mutant_and_every_mutant_fits_the_product() -> None:
    checkers = {checker.name for checker in CheckerSet(park_ms=0, clock_skew_ms=0, recorded_live=True).checkers}
    assert {mutant.checker for mutant in MUTANTS} == checkers
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        for file, text in edited_files(mutant).items():
            assert text != file.read_text("utf-8")
            if file.suffix == ".py":
                ast.parse(text)
    launched = subprocess.run(
        [sys.executable, "-m", "tests.faults.mutants", "term_not_checked", "--", "worker", "--help"],
        timeout=LAUNCHED_SECONDS_MAX,
        check=False,
    )
    assert launched.returncode == 0


@pytest.mark.soak
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
async def test_the_product_keeps_its_promises_where_its_mutants_do_not(plan: MutantRunPlan, tmp_path: Path) -> None:
    report = await run(plan, tmp_path)
    assert report.passed, "see the report above"
    assert {row.name for row in report.faults if row.times} == set(plan.faults)


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_mutant_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    caught: MutantResult | None = None
    for number in range(1, RUNS_MAX + 1):
        caught = MutantResult.by(mutant, await run(mutant.plan, tmp_path / str(number), mutant), number)
        note(caught, REPORTS / "mutants.json")
        if mutant.checker in caught.checkers:
            return
    raise AssertionError(f"{mutant.checker} did not see it in {RUNS_MAX} runs: {caught}")
