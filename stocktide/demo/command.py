"""`stocktide demo`: a whole `stocktide up`, and a small shop that trades on it until Ctrl-C.

In: the settings. Out: lines on the console and a page in the browser; an exit status.
"""

from __future__ import annotations

import click

from stocktide.client import ApiError
from stocktide.demo import shop
from stocktide.errors import CommandError
from stocktide.settings import Settings
from stocktide.up.command import run_anew
from stocktide.up.run_file import ReadyFile


def run(settings: Settings) -> int:
    """Run the demo until a signal; the exit status. Raises CommandError if it cannot start or go on."""
    return run_anew(settings, "demo", _trade)


async def _trade(ready: ReadyFile) -> None:
    try:
        await shop.run(ready.api, click.echo, ready.keys)
    except* ApiError as failures:
        raise CommandError(f"the demo cannot go on: {failures.exceptions[0]}") from None
