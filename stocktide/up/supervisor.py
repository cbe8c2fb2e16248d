"""The supervisor: restarts a process that ends, with a growing pause.

In: started processes. Out: a line on the console for each event, and a call of `changed` after each restart, so that
the ready file gets the new process id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.errors import CommandError
from stocktide.progress import Echo
from stocktide.streams.backoff import doubling_pauses
from stocktide.up.program import Program, ProgramNotReady, describe_end

# The first restart is immediate; a process that keeps failing must not use up the machine.
PAUSE_SECONDS_FIRST = 0.1
PAUSE_SECONDS_MAX = 10.0
# A process that ran this long did not fail at its start: the pause begins again.
STEADY_SECONDS = 30.0


SupervisedProcess = Program | EmbeddedKafka | EmbeddedValkey


class Supervisor:
    """Watches started processes."""

    def __init__(self, services: Sequence[SupervisedProcess], echo: Echo, changed: Callable[[], None]) -> None:
        self._services = list(services)
        self._echo = echo
        self._changed = changed

    async def watch(self) -> None:
        """Run until cancelled, and restart each process that ends."""
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(self._restart_forever(service), name=f"keep {service.name}")

    async def _restart_forever(self, service: SupervisedProcess) -> None:
        loop = asyncio.get_running_loop()
        pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
        while True:
            since = loop.time()
            status = await service.wait()
            if loop.time() - since > STEADY_SECONDS:
                pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
            pause = next(pauses)
            self._echo(f"{service.name} ended ({describe_end(status)}), starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            while not await self._restart(service):
                pause = next(pauses)
                await asyncio.sleep(pause)

    async def _restart(self, service: SupervisedProcess) -> bool:
        """Start it; whether it runs, ready or not."""
        try:
            await service.start()
        except ProgramNotReady as error:
            # It may still become ready; a restart would begin its work again.
            self._echo(str(error))
        except CommandError as error:
            self._echo(str(error))
            return False
        else:
            self._echo(f"{service.name} is back (process {service.pid})")
        self._changed()
        return True
