"""`stocktide demo`: a whole `stocktide up`, and a small shop that trades on it until Ctrl-C.

In: the settings. Out: lines on the console and a page in the browser; an exit status.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from stocktide.demo import shop
from stocktide.embedded.ports import is_port_free
from stocktide.errors import CommandError
from stocktide.loadtest.client.http import ApiError
from stocktide.settings import Settings
from stocktide.up import command
from stocktide.up.run_file import ReadyFile
from stocktide.up.system import UpOptions


def run(settings: Settings) -> int:
    """Run the demo until a signal; the exit status. Raises CommandError if it cannot start or go on."""
    if settings.port and not is_port_free(settings.port, settings.host):
        click.echo(f"port {settings.port} is taken: the demo takes a free one")
        settings = replace(settings, port=0)
    with _folder(settings) as folder:
        return command.run(replace(settings, data=folder), UpOptions(), when_ready=_trade)


async def _trade(ready: ReadyFile) -> None:
    try:
        await shop.run(ready.api, click.echo)
    except* ApiError as failures:
        raise CommandError(f"the demo cannot go on: {failures.exceptions[0]}") from None


@contextlib.contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """The folder of the settings, which stays; by default a temporary one, for a new shop each time."""
    if settings.data != Settings().data:
        yield settings.data
        return
    with tempfile.TemporaryDirectory(prefix="stocktide-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
