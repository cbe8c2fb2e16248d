"""`python -m tests.faults.table REPORT.json…`: the tables of docs/reliability.md.

In: reports, and `mutants.json`. Out: Markdown: each fault with its number of injections, the promises, the result, the
time without an answer, and the command that repeats it; each mutant with the checkers that detected it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults import mutant_results
from tests.faults.report import FaultReport, FaultRow, load_report

# The results of mutant runs, next to the reports.
MUTANTS_NAME = "mutants.json"


def render_fault_table(reports: Sequence[FaultReport]) -> Iterator[str]:
    """The table of faults, line by line."""
    yield "| fault | what it does, what heals it | times | promises | result | no answer, median / p99 | again |"
    yield "|---|---|---|---|---|---|---|"
    for report in reports:
        for row in report.faults:
            yield _line(row, report)
    yield ""
    for report in reports:
        yield from _summary(report)


def _line(row: FaultRow, report: FaultReport) -> str:
    promises = ", ".join(map(str, row.promises))
    result = "kept" if report.passed else "see below"
    down = f"{row.down_p50:.1f} s / {row.down_p99:.1f} s" if row.times else ""
    again = f"`--only {row.name} --seed {report.seed}`"
    about = row.about.replace("|", "\\|")
    return f"| `{row.name}` | {about} | {row.times} | {promises} | {result} | {down} | {again} |"


def _summary(report: FaultReport) -> Iterator[str]:
    yield (
        f"Seed {report.seed}: {report.commands:,} commands and {report.injected} faults "
        f"in {report.load_seconds:,.0f} s; {report.rows:,} rows of public topics were read."
    )
    yield ""
    yield "| checker | promise | looked at | found |"
    yield "|---|---|---|---|"
    for part in report.verdict["checked"]:
        looked = ", ".join(f"{count:,} {what}" for what, count in part["looked"].items() if count)
        yield f"| `{part['checker']}` | {part['promise']} | {looked} | {part['found']} |"
    yield ""


def render_tables(files: Sequence[Path]) -> Iterator[str]:
    """The table of faults, if the files include reports, and that of mutants."""
    reports = [load_report(file) for file in files if file.name != MUTANTS_NAME]
    if reports:
        yield from render_fault_table(reports)
    for file in files:
        if file.name == MUTANTS_NAME:
            yield from mutant_results.render_mutant_table(mutant_results.load_results(file))


if __name__ == "__main__":
    sys.stdout.write("\n".join(render_tables([Path(name) for name in sys.argv[1:]])) + "\n")
