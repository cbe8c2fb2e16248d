"""`stocktide up`: runs a whole system on one machine until a signal.

In: settings, options, signals. Out: a running `System`, lines on the console, an exit status. The first signal stops
everything in order, the second one kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import click

from stocktide.main_loop import run_unless_stopped
from stocktide.progress import Echo
from stocktide.settings import Settings
from stocktide.up.data_folder import lock_folder
from stocktide.up.system import System, UpOptions, WhenReady

# A shell's status for a program that Ctrl-C ended.
KILLED_STATUS = 130


def run(settings: Settings, options: UpOptions, echo: Echo = click.echo, when_ready: WhenReady | None = None) -> int:
    """Run until a signal; the exit status. `when_ready` runs beside the ready system. Raises CommandError, and leaves
    nothing running, if it cannot start."""
    return asyncio.run(_run(settings, options, echo, when_ready))


async def _run(settings: Settings, options: UpOptions, echo: Echo, when_ready: WhenReady | None) -> int:
    with _stop_signals() as signals:
        async with lock_folder(settings.data, echo) as folder:
            system = System(replace(settings, data=folder), options, echo)
            signals.on_second = system.kill
            try:
                if await run_unless_stopped(signals.stop, system.start()):
                    echo(system.greeting())
                    await run_unless_stopped(signals.stop, system.supervise(when_ready))
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
