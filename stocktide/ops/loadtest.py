"""`stocktide loadtest`: runs a flash sale against a system, with a report and a verdict.

In: options and settings. Out: an exit status: 0 where every promise was kept, 1 where one was broken, 2 where the run
is not valid or could not be done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from stocktide.discovery import LocateSystem, TargetSystem, for_system
from stocktide.errors import CommandError
from stocktide.settings import Settings

_FILE = click.Path(path_type=Path)
_SHAPES = ["steady", "ramp", "spike", "wave", "file", "search"]
# The packages of the extra `loadtest`.
_NEEDED = ("hdrh", "jinja2", "psutil", "plotly")


def loadtest_command() -> click.Command:
    """The command."""

    @click.command("loadtest", short_help="Hold a flash sale, and prove that nothing was oversold.")
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
    @click.option("--subscribers", type=int, default=50, metavar="N", help="Subscribers to their feeds. [50]")
    @click.option("--processes", type=int, default=1, metavar="N", help="Processes that push. [1]")
    @click.option("--seed", type=int, default=1, metavar="N", help="The same seed pushes the same. [1]")
    @click.option("--file", type=_FILE, help="For --shape file: orders as a CSV of Online Retail.")
    @click.option("--speed", type=float, default=60.0, metavar="X", help="Times real time of the file. [60]")
    @click.option("--dates", type=click.Choice(["iso", "mdy", "dmy"]), default="iso", help="How it writes dates. [iso]")
    @click.option("--encoding", default="utf-8", metavar="NAME", help="Of the file. [utf-8]")
    @click.option("--goal-ms", type=float, default=100.0, metavar="MS", help="The p99 to keep. [100]")
    @click.option("--report-html", type=_FILE, default="loadtest-report.html", help="[loadtest-report.html]")
    @click.option("--report-json", type=_FILE, default="loadtest-report.json", help="[loadtest-report.json]")
    @click.option("--live/--no-live", default=True, help="Show how it goes. [--live]")
    @for_system()
    def loadtest(locate: LocateSystem, **options: Any) -> int:
        """Hold a flash sale on a running system, and prove that nothing was oversold or lost.

        Exit status 1 if a promise was broken, 2 if the run is not valid.
        """
        _require_extra()
        from stocktide.loadtest.run.flash_sale import run
        from stocktide.loadtest.run.options import FlashSaleOptions

        target = locate("loadtest")
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
