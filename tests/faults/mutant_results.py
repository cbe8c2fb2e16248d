"""The results of mutant runs, for the table of reliability.

In: a mutant and the report of its run. Out: a JSON file with the newest result of each mutant.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.faults.mutations import MUTANTS, Mutant
from tests.faults.plans import MutantRunPlan
from tests.faults.report import FaultReport


class MutantResult(Struct, frozen=True):
    """The run of a mutant. `checker` has to detect it; `checkers` are all that did, with their numbers of violations;
    `what` is the first violation of `checker`. `runs`: the number of runs, all with the same plan and seed."""

    name: str
    about: str
    checker: str
    checkers: dict[str, int]
    what: str
    plan: str
    seed: int
    load_seconds: float
    commands: int
    runs: int = 1

    @staticmethod
    def by(mutant: Mutant, report: FaultReport, runs: int) -> MutantResult:
        parts = {part["checker"]: part for part in report.verdict["checked"]}
        found = {name: part["found"] for name, part in parts.items() if part["found"]}
        what = next((violation["what"] for violation in parts[mutant.checker]["violations"]), "")
        about, plan = mutant.about, _plan(mutant.plan)
        return MutantResult(
            mutant.name,
            about,
            mutant.checker,
            found,
            what,
            plan,
            report.seed,
            report.load_seconds,
            report.commands,
            runs,
        )


_FILE = msgspec.json.Decoder(dict[str, MutantResult])


def save_result(result: MutantResult, file: Path) -> None:
    """Replace the result of the mutant in the file; drop results of mutants that no longer exist."""
    known = {mutant.name for mutant in MUTANTS}
    runs = load_results(file) if file.exists() else {}
    runs = {name: run for name, run in runs.items() if name in known} | {result.name: result}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1))


def load_results(file: Path) -> dict[str, MutantResult]:
    return _FILE.decode(file.read_bytes())


def render_mutant_table(runs: dict[str, MutantResult]) -> Iterator[str]:
    """The Markdown table of mutants, line by line."""
    yield "| mutant | what is broken | run | to be seen by | seen by | runs | for example |"
    yield "|---|---|---|---|---|---|---|"
    for mutant in MUTANTS:
        result = runs.get(mutant.name)
        if result is None:
            yield f"| `{mutant.name}` | {mutant.about} | {_plan(mutant.plan)} | `{mutant.checker}` | not run | | |"
            continue
        seen = ", ".join(f"`{name}` {count:,}" for name, count in result.checkers.items()) or "**nobody**"
        what = result.what.replace("|", "\\|")
        to_be = f"| `{result.name}` | {result.about} | {result.plan} | `{result.checker}` |"
        yield f"{to_be} {seen} | {result.runs} | {what} |"
    yield ""
    yield "A mutant again: `.venv/bin/pytest -m soak -s tests/faults/test_mutants.py -k NAME`."
    yield ""


def _plan(plan: MutantRunPlan) -> str:
    return f"{plan.about}; seed {plan.seed}"
