"""The main loop of the worker's and the API's process: event loop, logging, signals.

In: a coroutine to run. Out: its result, or a cancelled run once a signal asks the process to stop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Coroutine, Iterable
from typing import Any

# Long-lived tables and caches make frequent full collections useless.
GC_THRESHOLD = (50_000, 50, 100)


def run_main(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on uvloop where it is installed."""
    gc.set_threshold(*GC_THRESHOLD)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


class OneLineFormatter(logging.Formatter):
    """A message is one line, whatever its values are, and the lines of a traceback are indented: what a client sent
    can neither look like an entry of the log nor move the cursor of a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of an entry."""
        return _escape_controls(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The traceback below it."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escape_controls(line)}" for line in lines)


def _escape_controls(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def configure_logging(level: str, quiet: Iterable[str] = (), silent: Iterable[str] = ()) -> None:
    """Log to standard error. Unless `level` is DEBUG, `quiet` loggers write warnings only, `silent` ones nothing."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    if level != "DEBUG":
        for names, minimum in ((quiet, logging.WARNING), (silent, logging.CRITICAL)):
            for name in names:
                logging.getLogger(name).setLevel(minimum)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or cancel it once `stop` is set. Whether it ended by itself; its exception is raised."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return False
