"""Which mutant was caught by whom: what the runs of mutants leave for the table of reliability.

In: a mutant and the report of its run. Out: a file of JSON, in which each mutant has its newest run.
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
    """A mutant's run: `checker` was to see it; `checkers` are all who did, each with how much it found, and `what` is
    the first finding of the one that was to. `runs`: how many it took; all are of the same plan and seed."""

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
        """From the run's report."""
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


def note(caught: MutantResult, file: Path) -> None:
    """Put a run into the file, in the place of an older one; runs of mutants that are no more go."""
    known = {mutant.name for mutant in MUTANTS}
    runs = load(file) if file.exists() else {}
    runs = {name: run for name, run in runs.items() if name in known} | {caught.name: caught}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1))


def load(file: Path) -> dict[str, MutantResult]:
    """The runs, by mutant."""
    return _FILE.decode(file.read_bytes())


def render_mutant_table(runs: dict[str, MutantResult]) -> Iterator[str]:
    """The table of mutants as Markdown, line by line; one that was not run says so."""
    yield "| mutant | what is broken | run | to be seen by | seen by | runs | for example |"
    yield "|---|---|---|---|---|---|---|"
    for mutant in MUTANTS:
        caught = runs.get(mutant.name)
        if caught is None:
            yield f"| `{mutant.name}` | {mutant.about} | {_plan(mutant.plan)} | `{mutant.checker}` | not run | | |"
            continue
        seen = ", ".join(f"`{name}` {count:,}" for name, count in caught.checkers.items()) or "**nobody**"
        what = caught.what.replace("|", "\\|")
        to_be = f"| `{caught.name}` | {caught.about} | {caught.plan} | `{caught.checker}` |"
        yield f"{to_be} {seen} | {caught.runs} | {what} |"
    yield ""
    yield "A mutant again: `.venv/bin/pytest -m soak -s tests/faults/test_mutants.py -k NAME`."
    yield ""


def _plan(plan: MutantRunPlan) -> str:
    return f"{plan.about}; seed {plan.seed}"
