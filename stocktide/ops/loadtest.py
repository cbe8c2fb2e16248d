"""`stocktide loadtest`: a flash sale against a system, in one step, or as `run`, `judge`, `report` and `compare`.

In: options and settings; runs and results in files. Out: an exit status: 0 where every promise was kept (of `run` and
`report`: where the files are written), 1 where one was broken, 2 where a run is not valid or could not be done, or a
file cannot be read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from stocktide.discovery import LocateSystem, TargetSystem, for_system
from stocktide.errors import CommandError, StocktideError
from stocktide.settings import Settings

_Command = Callable[..., Any]
_FAILED, _STOPPED = 2, 130
_FILE = click.Path(path_type=Path)
_SHAPES = ["steady", "ramp", "spike", "wave", "file", "search"]
# The packages of the extra `loadtest`.
_NEEDED = ("hdrh", "jinja2", "psutil", "plotly")


def loadtest_group() -> click.Group:
    """The load test as a group; without a subcommand it runs, judges and reports."""
    command = _load_command(
        "loadtest",
        "Hold a flash sale, and prove that nothing was oversold.",
        "Hold a flash sale on a running system, and prove that nothing was oversold or lost.\n\n"
        "Exit status 1 if a promise was broken, 2 if the run is not valid.",
        _report_options,
    )

    @click.pass_context
    def run_load_test(context: click.Context, /, **options: Any) -> None:
        if context.invoked_subcommand is None:
            assert command.callback is not None
            context.invoke(command.callback, **options)
        elif any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in options):
            raise click.UsageError(f"options go behind the subcommand: loadtest {context.invoked_subcommand} ...")

    group = click.Group(
        command.name,
        params=command.params,
        callback=run_load_test,
        help=command.help,
        short_help=command.short_help,
        invoke_without_command=True,
    )
    for subcommand in (_run_command(), judge_command, report_command, compare_command):
        group.add_command(subcommand)
    return group


def _run_command() -> click.Command:
    return _load_command(
        "run",
        "Hold a flash sale, and write the run to a file.",
        "Hold a flash sale on a running system, and write the run to a file for `judge`, `report` and `compare`.",
        click.option("--run-file", type=_FILE, default="loadtest-run.gz", help="[loadtest-run.gz]"),
    )


def _report_options(command: _Command) -> _Command:
    html = click.option("--report-html", type=_FILE, default="loadtest-report.html", help="[loadtest-report.html]")
    json = click.option("--report-json", type=_FILE, default="loadtest-report.json", help="[loadtest-report.json]")
    return html(json(command))


@click.command("judge", short_help="Judge a run again.")
@click.argument("run", type=_FILE, metavar="RUN")
def judge_command(run: Path) -> None:
    """Judge the run in a file again, with the same checkers, and print the verdict.

    Exit status 1 if a promise was broken, 2 if the run is not valid or cannot be read.
    """

    def judge() -> int:
        from rich.console import Console

        from stocktide.loadtest.report.terminal import show_results
        from stocktide.loadtest.run.conclusion import judge_file

        results = judge_file(run)
        show_results(results, Console(highlight=False))
        return results.verdict.status

    _exit(judge)


@click.command("report", short_help="Draw the reports of a run again.")
@click.argument("run", type=_FILE, metavar="RUN")
@_report_options
def report_command(run: Path, report_html: Path, report_json: Path) -> None:
    """Judge the run in a file again, and write its page and its JSON report.

    Exit status 2 if the run cannot be read or a report cannot be written.
    """

    def report() -> int:
        from rich.console import Console

        from stocktide.loadtest.report.terminal import print_written, write_reports
        from stocktide.loadtest.run.conclusion import judge_file

        write_reports(judge_file(run), report_html, report_json)
        print_written(Console(stderr=True, highlight=False), report_html, report_json)
        return 0

    _exit(report)


@click.command("compare", short_help="Compare two load tests.")
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def compare_command(a: Path, b: Path, as_json: bool) -> None:
    """Compare two load tests, A the one before; each is a JSON report or a run.

    Exit status 1 if B broke a promise, 2 if one of them is not valid or cannot be read.
    """

    def compare_files() -> int:
        import msgspec
        from rich.console import Console

        from stocktide.loadtest.report.compare import compare, show
        from stocktide.loadtest.run.conclusion import read_results

        comparison = compare(read_results(a), read_results(b), (a.name, b.name))
        if as_json:
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(comparison.as_json()), indent=2) + b"\n")
        else:
            show(comparison, Console(highlight=False))
        return comparison.status

    _exit(compare_files)


def _exit(work: Callable[[], int]) -> None:
    """Exit with the status of `work`; an expected failure is a sentence and status 2."""
    try:
        _require_extra()
        sys.exit(work())
    except (StocktideError, OSError) as error:
        sys.stderr.write(f"stocktide: {error}\n")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        # Click would exit with 1, which says that a promise was broken.
        sys.exit(_STOPPED)


def _load_command(name: str, short_help: str, text: str, outputs: Callable[[_Command], _Command]) -> click.Command:
    """A command that runs a flash sale; `outputs` adds the options of its files."""

    @click.command(name, short_help=short_help, help=text)
    @click.option("--shape", type=click.Choice(_SHAPES), default="spike", help="How orders arrive. [spike]")
    @click.option("--seconds", type=float, default=60.0, metavar="S", help="How long. [60]")
    @click.option("--rate", type=float, default=150.0, metavar="N", help="Orders a second at the peak. [150]")
    @click.option("--door", type=click.Choice(["http", "kafka", "both"]), default="http", help="Way in. [http]")
    @click.option("--skus", type=int, default=200, metavar="N", help="SKUs on sale. [200]")
    @click.option("--hot", type=int, default=5, metavar="N", help="Of them hot ones. [5]")
    @click.option("--hot-share", type=float, default=0.9, metavar="X", help="Shoppers who want a hot one. [0.9]")
    @click.option("--zipf", type=float, default=1.1, metavar="X", help="How uneven the demand for the rest is. [1.1]")
    @click.option("--units", type=int, metavar="N", help="Of each hot SKU. [so many that they sell out]")
    @click.option("--hold-seconds", type=int, default=10, metavar="S", help="How long an order waits for pay. [10]")
    @click.option("--channels", type=int, default=5, metavar="N", help="Channels that sell. [5]")
    @click.option("--changes", type=float, default=0.15, metavar="X", help="Sold, pool, part back, paid late. [0.15]")
    @click.option("--subscribers", type=int, default=50, metavar="N", help="Subscribers to their feeds. [50]")
    @click.option("--sockets", type=float, default=0.5, metavar="X", help="Of them by WebSocket. [0.5]")
    @click.option("--processes", type=int, default=1, metavar="N", help="Processes that push. [1]")
    @click.option("--seed", type=int, default=1, metavar="N", help="The same seed pushes the same. [1]")
    @click.option("--file", type=_FILE, help="For --shape file: orders as a CSV of Online Retail.")
    @click.option("--speed", type=float, default=60.0, metavar="X", help="Times real time of the file. [60]")
    @click.option("--dates", type=click.Choice(["iso", "mdy", "dmy"]), default="iso", help="How it writes dates. [iso]")
    @click.option("--encoding", default="utf-8", metavar="NAME", help="Of the file. [utf-8]")
    @click.option("--goal-ms", type=float, default=100.0, metavar="MS", help="The p99 to keep. [100]")
    @outputs
    @click.option("--live/--no-live", default=True, help="Show how it goes. [--live]")
    @for_system()
    def loadtest(locate: LocateSystem, **options: Any) -> int:
        _require_extra()
        from stocktide.loadtest.run.flash_sale import run
        from stocktide.loadtest.run.options import FlashSaleOptions

        target = locate("loadtest" if name == "loadtest" else f"loadtest {name}")
        settings = target.settings
        return run(
            FlashSaleOptions(
                api=target.api,
                kafka=settings.kafka,
                app_id=settings.app_id,
                security=settings.kafka_access(),
                pids=_pids(target),
                command=(sys.executable, "-m", "stocktide", "loadtest-tester"),
                **options,
            )
        )

    return loadtest


def tester_command(with_settings: Callable[[Callable[..., int]], Callable[..., None]]) -> click.Command:
    """The hidden command of one process of a load test, which the load test starts."""

    @click.command("loadtest-tester", hidden=True)
    @with_settings
    def tester(settings: Settings) -> int:
        """Send orders or subscribe, as standard input says."""
        from stocktide.loadtest.run.load_worker import run

        return run(settings.kafka_access())

    return tester


def _require_extra() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"the load test needs the extra `loadtest`: pip install 'stocktide[loadtest]' ({missing[0]})"
        )


def _pids(target: TargetSystem) -> Mapping[str, int]:
    """The process ids of the system, where a `stocktide up` of this machine runs it."""
    if target.running is None:
        return {}
    return {name: pid for name, pid in target.running.ready.pids.items() if pid}
