"""`stocktide loadtest compare A.json B.json`: compares two load tests.

In: two JSON reports of `stocktide loadtest`. Out: a table, or JSON; exit status 1 where B broke a promise, 2 where a
run is not valid or a report cannot be read, else 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)
_UNREADABLE = 2


@click.command("compare", short_help="Compare the reports of two load tests.")
@click.argument("a", type=_FILE, metavar="A.json")
@click.argument("b", type=_FILE, metavar="B.json")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def compare_command(a: Path, b: Path, as_json: bool) -> None:
    """Compare the JSON reports of two load tests, A the one before.

    Exit status 1 if B broke a promise, 2 if one of them is not valid or cannot be read.
    """
    sys.exit(run(a, b, as_json))


def run(a: Path, b: Path, as_json: bool = False) -> int:
    """Print the comparison; the exit status."""
    import msgspec
    from rich.console import Console

    from stocktide.loadtest.report.compare import CompareError, compare, read
    from stocktide.loadtest.report.compare_table import show

    try:
        comparison = compare(read(a), read(b), (a.name, b.name))
    except CompareError as error:
        sys.stderr.write(f"stocktide: {error}\n")
        return _UNREADABLE
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(comparison.as_json()), indent=2) + b"\n")
    else:
        show(comparison, Console(highlight=False))
    return comparison.status


def with_compare(command: click.Command) -> click.Group:
    """The load test as a group with the subcommand `compare`; without it the load test runs."""

    @click.pass_context
    def run_load_test(context: click.Context, /, **options: Any) -> None:
        if context.invoked_subcommand is None:
            assert command.callback is not None
            context.invoke(command.callback, **options)

    group = click.Group(
        command.name,
        params=command.params,
        callback=run_load_test,
        help=command.help,
        short_help=command.short_help,
        invoke_without_command=True,
    )
    group.add_command(compare_command)
    return group
