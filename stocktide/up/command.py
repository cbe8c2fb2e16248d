"""`stocktide up`: runs a whole system on one machine until a signal.

In: settings, options, signals. Out: a running `System`, lines on the console, an exit status. The first signal stops
everything in order, the second one kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from stocktide.embedded.ports import is_port_free
from stocktide.main_loop import run_unless_stopped
from stocktide.progress import Echo
from stocktide.settings import Settings
from stocktide.up.data_folder import lock_folder
from stocktide.up.preflight import check_files
from stocktide.up.system import System, UpOptions, WhenReady

# A shell's status for a program that Ctrl-C ended.
KILLED_STATUS = 130


def run(
    settings: Settings,
    options: UpOptions,
    echo: Echo = click.echo,
    when_ready: WhenReady | None = None,
    until_done: bool = False,
) -> int:
    """Run until a signal, or with `until_done` until `when_ready` ends, which runs beside the ready system; the exit
    status. Raises CommandError, and leaves nothing running, if it cannot start."""
    return asyncio.run(_run(settings, options, echo, when_ready, until_done))


def run_anew(settings: Settings, name: str, when_ready: WhenReady, until_done: bool = False) -> int:
    """The same on a new temporary folder, unless the settings name one, and on a free port if theirs is taken."""
    if settings.port and not is_port_free(settings.port, settings.host):
        click.echo(f"port {settings.port} is taken: the {name} takes a free one")
        settings = replace(settings, port=0)
    with _folder(settings, name) as folder:
        return run(replace(settings, data=folder), UpOptions(), when_ready=when_ready, until_done=until_done)


@contextlib.contextmanager
def _folder(settings: Settings, name: str) -> Iterator[Path]:
    if settings.data != Settings().data:
        yield settings.data
        return
    with tempfile.TemporaryDirectory(prefix=f"stocktide-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def _run(
    settings: Settings, options: UpOptions, echo: Echo, when_ready: WhenReady | None, until_done: bool
) -> int:
    check_files(settings, worker=True, api=True)
    with _stop_signals() as signals:
        async with lock_folder(settings.data, echo) as folder:
            system = System(replace(settings, data=folder), options, echo)
            signals.on_second = system.kill
            try:
                if await run_unless_stopped(signals.stop, system.start()):
                    echo(system.greeting())
                    await run_unless_stopped(signals.stop, system.supervise(when_ready, until_done))
            finally:
                if system.has_children:
                    echo("stopping")
                await system.stop()
        return KILLED_STATUS if signals.count > 1 else 0


class _Signals:
    """The first signal sets `stop`, the second one calls `on_second`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.count = 0
        self.on_second: Callable[[], None] = lambda: None

    def receive(self) -> None:
        """Handle a signal."""
        self.count += 1
        self.stop.set()
        if self.count > 1:
            self.on_second()


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Signals]:
    loop = asyncio.get_running_loop()
    signals = _Signals()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, signals.receive)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
