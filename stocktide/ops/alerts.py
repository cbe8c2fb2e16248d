"""The group `stocktide alerts` of the command line: `check` the file of alerts, `test` its receivers.

In: a command line. Out: what the file says; one line a receiver, and exit status 1 if one has not taken its message.
"""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


def alerts_group() -> click.Group:
    """The group."""

    @click.group("alerts", short_help="Check the file of alerts; test its receivers.")
    def group() -> None:
        """Check the file of alerts (STOCKTIDE_ALERTS_FILE), or send a test alert to its receivers."""

    @group.command(short_help="Check the file and show what it says.")
    @click.argument("file", type=_FILE, required=False)
    def check(file: Path | None) -> None:
        """Check FILE, else that of STOCKTIDE_ALERTS_FILE. Exit status 2 with the place of what is wrong."""
        from stocktide.ops.alerts_run import run_check

        raise SystemExit(run_check(file))

    @group.command(short_help="Send a test alert.")
    @click.argument("receiver", required=False)
    def test(receiver: str | None) -> None:
        """Send a test alert to RECEIVER, else to all of them. Exit status 1 if one has not taken it."""
        from stocktide.ops.alerts_run import run_test

        raise SystemExit(run_test(receiver))

    return group
