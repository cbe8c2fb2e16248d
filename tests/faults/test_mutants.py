"""Each checker detects its mutants, and finds nothing in the same run of the product itself.

The results go to `soak-reports/mutants.json`, for the table of docs/reliability.md.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from stocktide.loadtest.oracle.judge import CheckerSet
from tests.faults.cluster import ClusterOptions
from tests.faults.faults import select_faults
from tests.faults.load import ScenarioRates
from tests.faults.mutant_results import MutantResult, save_result
from tests.faults.mutants import edited_files
from tests.faults.mutations import MUTANTS, Mutant
from tests.faults.plans import PLANS, MutantRunPlan
from tests.faults.report import FaultReport, run_and_judge
from tests.faults.run import FaultRunOptions
from tests.faults.test_faults import AROUND_SECONDS_MAX, REPORTS, write_line

# A higher rate of malformed input than in a long run, so that a short run has some.
RATES = ScenarioRates(orders=70, noises=4)
LAUNCHED_SECONDS_MAX = 60
# Some mutants depend on a race of a few ms, which the faults make likely but not certain.
RUNS_MAX = 3


async def run(plan: MutantRunPlan, folder: Path, mutant: Mutant | None = None) -> FaultReport:
    """Run a plan on the product or on a mutant, and judge it."""
    launcher = ("stocktide",) if mutant is None else ("tests.faults.mutants", mutant.name, "--")
    options = FaultRunOptions(
        folder=folder,
        seconds=plan.seconds,
        seed=plan.seed,
        faults=select_faults(plan.faults) if plan.faults else (),
        strikes_min=plan.strikes_min,
        rates=RATES,
        shape=ClusterOptions(replica=plan.replica, launcher=(sys.executable, "-m", *launcher)),
    )
    return await run_and_judge(options, write_line, options.seconds + AROUND_SECONDS_MAX)


def test_every_checker_has_a_mutant_and_every_mutant_fits_the_product() -> None:
    checkers = {checker.name for checker in CheckerSet(park_ms=0, recorded_live=True).checkers}
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
    result: MutantResult | None = None
    for number in range(1, RUNS_MAX + 1):
        result = MutantResult.by(mutant, await run(mutant.plan, tmp_path / str(number), mutant), number)
        save_result(result, REPORTS / "mutants.json")
        if mutant.checker in result.checkers:
            return
    raise AssertionError(f"{mutant.checker} did not see it in {RUNS_MAX} runs: {result}")
