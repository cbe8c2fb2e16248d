"""`python -m tests.faults --seconds N --seed S`: one run, its report on the console, exit status 1 on a violation."""

from __future__ import annotations

import logging
import secrets
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from tests.faults.cluster import ClusterOptions
from tests.faults.faults import FAULTS, select_faults, unavailable_reason
from tests.faults.load import ScenarioRates
from tests.faults.report import run_and_judge, write_report
from tests.faults.run import FaultRunOptions

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--seconds", type=float, default=120.0, show_default=True, help="How long faults strike.")
@click.option("--seed", type=int, help="Replays the plan and the load of a run. [a new one]")
@click.option("--only", default="", metavar="FAULT,…", help="These faults alone.")
@click.option("--skip", default="", metavar="FAULT,…", help="All but these.")
@click.option(
    "--orders", type=float, default=ScenarioRates().orders, show_default=True, help="Stories of orders a second."
)
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True)
@click.option("--two-workers", is_flag=True, help="Two workers from the start.")
@click.option("--apart", is_flag=True, help="Each worker is two processes: deciding and publishing.")
@click.option("--disk-mb", type=int, default=0, help="A disk of that size for the broker (tmpfs, as root).")
@click.option("--keep", type=_FILE, metavar="DIR", help="Keep data, logs and history there.")
@click.option("--report", "report_file", type=_FILE, metavar="FILE", help="Write the report there as JSON.")
@click.option("--list", "listing", is_flag=True, help="Name the faults, and end.")
def main(
    seconds: float,
    seed: int | None,
    only: str,
    skip: str,
    orders: float,
    brokers: str,
    two_workers: bool,
    apart: bool,
    disk_mb: int,
    keep: Path | None,
    report_file: Path | None,
    listing: bool,
) -> None:
    """Run the system under load and faults, and judge it."""
    if listing:
        for fault in FAULTS:
            click.echo(f"{fault.name:<36} {fault.about}")
        return
    # aiokafka logs each failed attempt as an error; here they fail on purpose.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    seed = secrets.randbelow(10**6) if seed is None else seed
    skipped = set(filter(None, skip.split(",")))
    try:
        faults = [
            fault for fault in select_faults([name for name in only.split(",") if name]) if fault.name not in skipped
        ]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error
    cluster_options = ClusterOptions(brokers=int(brokers), second_worker=two_workers, apart=apart, disk_mb=disk_mb)
    for fault in faults:
        if (reason := unavailable_reason(fault, cluster_options)) is not None:
            click.echo(f"cannot be made here: {fault.name}: {reason}")
    faults = [fault for fault in faults if unavailable_reason(fault, cluster_options) is None]
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="faults-") as folder:
        options = FaultRunOptions(
            folder=Path(folder),
            seconds=seconds,
            seed=seed,
            faults=faults,
            rates=ScenarioRates(orders=orders),
            shape=cluster_options,
        )
        import uvloop

        report = uvloop.run(run_and_judge(options, click.echo))
    if report_file is not None:
        write_report(report, report_file)
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
