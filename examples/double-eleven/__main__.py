"""One day of a shop on 11 November, on a system of its own; `make double-eleven`.

In: options. Out: the day as a table, the account of its hot SKU, and exit status 1 if a number differs.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import click
from day import Day
from story import HOT_SKU

from stocktide.discovery import SystemSelector, locate
from stocktide.errors import CommandError, StocktideError
from stocktide.loadtest.client.http import StocktideClient
from stocktide.ops.explain.command import ExplainOptions, explain
from stocktide.settings import Settings
from stocktide.up.command import run_anew
from stocktide.up.run_file import ReadyFile


class Example:
    """The example on one system. `differences`: None until it has ended."""

    def __init__(self, settings: Settings, keep: bool = False) -> None:
        self._settings = settings
        self._keep = keep
        self.differences: int | None = None

    async def when_ready(self, ready: ReadyFile) -> None:
        """Play it on the system that has just started."""
        settings = replace(self._settings, kafka=ready.kafka, app_id=ready.app_id)
        await self.play(ready.api, settings, ready.keys.get("operator"))
        if self._keep:
            sign_in = f" Sign in with this key:\n  {ready.keys['viewer']}" if "viewer" in ready.keys else ""
            click.echo(f"\nThe board is at {ready.api}/ until you press Ctrl-C.{sign_in}")

    async def play(self, api: str, settings: Settings, key: str | None = None) -> None:
        """Play it on a running system."""
        async with StocktideClient(api, key=key) as client:
            day = Day(client, settings.kafka, settings.app_id, click.echo)
            await day.play()
        click.echo(f"\nThe account of {HOT_SKU}, as `stocktide explain {HOT_SKU}` prints it:\n")
        self.differences = day.differences + await explain(settings, ExplainOptions(HOT_SKU))
        click.echo(f"\n{self.differences or 'no'} differences from the numbers of the README")


@click.command()
@click.option("--keep", is_flag=True, help="Keep the system running, to look at the board, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port of the board; 0 picks a free one. [8080]")
@click.option("--api", metavar="URL", help="Use this running system, which holds nothing yet.")
def main(keep: bool, port: int | None, api: str | None) -> None:
    """Play one day of a shop, and compare its numbers with those that were worked out by hand."""
    settings = Settings.from_environment(port=port)
    example = Example(settings, keep)
    try:
        if api is not None:
            target = locate(settings, SystemSelector(api=api))
            key = target.running.ready.keys.get("operator") if target.running is not None else None
            asyncio.run(example.play(target.api, target.settings, key))
        else:
            run_anew(settings, "double-eleven", example.when_ready, until_done=not keep)
    except CommandError as error:
        raise click.ClickException(str(error)) from error
    except StocktideError as error:
        raise click.ClickException(f"the example cannot go on: {error}") from error
    sys.exit(0 if example.differences == 0 else 1)


if __name__ == "__main__":
    main()
