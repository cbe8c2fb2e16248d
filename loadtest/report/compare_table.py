"""A comparison of two load tests on a terminal.

In: a `Comparison`. Out: the verdicts, whether the two are comparable, the differences, the figures.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.report.compare import ComparedRun, Comparison, ComparisonRow
from stocktide.loadtest.report.formatting import LIMIT_NAMES, printable

# Two runs of the same system differ by as much: a smaller change is neither better nor worse.
CHANGE_PERCENT_MIN = 10.0


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        run = printable(f"{side.file}, {side.started_at}  ")
        _print(console, Text.assemble((f"{name}  ", "bold"), run, _verdict(side)))
    if comparison.why_not:
        _print(console, Text("The two are not comparable:", "bold yellow"))
        for why in comparison.why_not:
            _print(console, Text(f"  {printable(why)}", "yellow"))
    else:
        _print(console, Text("The two are comparable: the same settings on the same kind of machine.", "green"))
    for title, pairs in (("settings that differ", comparison.settings), ("machines that differ", comparison.machine)):
        if pairs:
            console.print(_pairs(title, pairs))
    console.print(_figures(comparison))
    for note in comparison.notes:
        _print(console, Text(f"note: {printable(note)}", "dim"))


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=not console.is_terminal, highlight=False)


def _verdict(side: ComparedRun) -> Text:
    if not side.kept:
        many = f"{side.violations:,} violation{'' if side.violations == 1 else 's'}"
        first = f", the first: {printable(side.first_violation)}" if side.first_violation else ""
        return Text(f"✗ promise broken, {many}{first}", "bold red")
    if not side.valid:
        return Text("? not valid", "bold yellow")
    return Text(f"✓ promises kept; limit: {printable(LIMIT_NAMES.get(side.limit, side.limit))}", "bold green")


def _pairs(title: str, pairs: dict[str, tuple[str, str]]) -> Table:
    """A line for each run, so that a long value has most of the width."""
    table = Table()
    table.add_column(title, no_wrap=True)
    table.add_column("run", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, (one, other) in pairs.items():
        table.add_row(Text(printable(name.replace("_", " "))), "A", Text(printable(one)))
        table.add_row("", "B", Text(printable(other)))
    return table


def _figures(comparison: Comparison) -> Table:
    table = Table()
    table.add_column("figures", overflow="fold")
    for head in ("A", "B", "B − A"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    group = ""
    for row in comparison.rows:
        if group and row.group != group:
            table.add_section()
        group = row.group
        word, style = _word(row) if comparison.comparable else ("", "")
        name = f"{row.group}: {row.name}" if row.group[:3] in ("CPU", "mem") else row.name
        table.add_row(
            Text(printable(name)), _number(row.a, row.unit), _number(row.b, row.unit), _change(row), Text(word, style)
        )
    return table


def _word(row: ComparisonRow) -> tuple[str, str]:
    """`better` or `worse` and a style, where the change is large enough."""
    change = row.change_percent
    grew_from_nothing = change is None and row.a == 0 and bool(row.b)
    if row.more_is == "other" or not (grew_from_nothing or (change is not None and abs(change) >= CHANGE_PERCENT_MIN)):
        return "", ""
    grew = grew_from_nothing or (change is not None and change > 0)
    return ("better", "green") if grew == (row.more_is == "better") else ("worse", "red")


def _change(row: ComparisonRow) -> str:
    change = row.change_percent
    return "" if change is None else f"{change:+,.1f} %" if change else "same"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    digits = 0 if unit in ("", "MB", "/s") or value >= 1_000 else 1
    gap = "" if unit.startswith("/") or not unit else " "
    return f"{value:,.{digits}f}{gap}{unit}"
