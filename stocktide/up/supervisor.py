"""Keeps services running: what ends is started again, with a growing pause; and stops all of them in order.

In: services that are started. Out: a word for each event to the console, and `changed` whenever a service came
back, so that the ready file can be written anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from stocktide.errors import CommandError
from stocktide.progress import Echo
from stocktide.up.program import ProgramNotReady, describe_end

# The first restart comes almost at once: an answer waits for it. One that keeps dying must not eat the machine.
PAUSE_SECONDS_FIRST = 0.1
PAUSE_SECONDS_MAX = 10.0
# Who lived this long did not die of how it was started: its next pause is the first again.
STEADY_SECONDS = 30.0


class SupervisedProcess(Protocol):
    """What the supervisor needs of an embedded server or a program of ours."""

    name: str

    @property
    def pid(self) -> int | None:
        """Its process id."""

    async def start(self) -> None:
        """Start and wait until it serves. Raises CommandError."""

    async def stop(self) -> None:
        """Stop and wait for its end, within a limit of its own."""

    async def wait(self) -> int:
        """Wait for its end."""

    def kill(self) -> None:
        """End it at once."""


class Supervisor:
    """Watches services that were started. `services` is in the order in which to stop them."""

    def __init__(self, services: Sequence[SupervisedProcess], say: Echo, changed: Callable[[], None]) -> None:
        self._services = list(services)
        self._say = say
        self._changed = changed

    async def watch(self) -> None:
        """Run until cancelled; start again whatever ends."""
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(self._keep(service), name=f"keep {service.name}")

    async def stop(self) -> None:
        """Stop all in order."""
        for service in self._services:
            await service.stop()

    def kill(self) -> None:
        """End all at once."""
        for service in self._services:
            service.kill()

    async def _keep(self, service: SupervisedProcess) -> None:
        loop = asyncio.get_running_loop()
        pause = PAUSE_SECONDS_FIRST
        while True:
            since = loop.time()
            status = await service.wait()
            if loop.time() - since > STEADY_SECONDS:
                pause = PAUSE_SECONDS_FIRST
            self._say(f"{service.name} ended ({describe_end(status)}), starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
            while not await self._start_again(service):
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _start_again(self, service: SupervisedProcess) -> bool:
        """Start it; whether it runs now, ready or not yet."""
        try:
            await service.start()
        except ProgramNotReady as error:
            # It lives and may still come: killing it would begin its work anew.
            self._say(str(error))
        except CommandError as error:
            self._say(str(error))
            return False
        else:
            self._say(f"{service.name} is back (process {service.pid})")
        self._changed()
        return True
