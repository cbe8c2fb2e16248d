"""`stocktide up`: everything on one machine, as one command that stays until it is told to stop.

In: the settings, which servers are ours to bring, signals. Out: a running `System`, its ready file once it serves,
words on the console, an exit status. The first signal stops all in order, a second one kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

from stocktide.progress import Echo
from stocktide.up.data_folder import lock_folder
from stocktide.up.system import System, UpOptions, WhenReady

# As a shell reports a program that Ctrl-C ended.
KILLED_STATUS = 130


def run(options: UpOptions, say: Echo, when_ready: WhenReady | None = None) -> int:
    """Run until a signal; the exit status. `when_ready` runs beside the system once it serves.

    Raises CommandError if it cannot start; then nothing is left running.
    """
    return asyncio.run(_run(options, say, when_ready))


async def _run(options: UpOptions, say: Echo, when_ready: WhenReady | None) -> int:
    with _stop_signals() as signals:
        async with lock_folder(options.settings.data, say) as folder:
            system = System(replace(options, settings=replace(options.settings, data=folder)), say)
            signals.on_second = system.kill
            try:
                if await _until(signals.stop, system.start()):
                    say(system.greeting())
                    await _until(signals.stop, system.supervise(when_ready))
            finally:
                if system.has_children:
                    say("stopping")
                await system.stop()
        return KILLED_STATUS if signals.count > 1 else 0


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless `stop` comes first; whether it was done. What the work raises is raised."""
    doing = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await doing
    return False


class _Signals:
    """The first signal asks to stop, the second one kills."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.count = 0
        self.on_second: Callable[[], None] = lambda: None

    def came(self) -> None:
        """A signal came."""
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
        loop.add_signal_handler(number, signals.came)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
