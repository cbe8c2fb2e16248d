"""What a fault is, and the scene at which it strikes."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from stocktide.retry import poll_until
from tests.faults.cluster import Cluster
from tests.faults.recording_clients import RunRecorder
from tests.faults.system_process import SystemProcess

Component = Literal["worker", "api", "redis", "kafka", "client"]
# A failpoint that is on the way of every order is reached at once; one that is not reached in so long is a miss.
FAILPOINT_SECONDS_MAX = 20.0
# One in so many passes: the process is in the midst of its work when it happens, and not at the first record.
FAILPOINT_PROBABILITY = 0.1


class FaultNotInjected(Exception):
    """The fault could not be done: what it waits for did not come. It is counted apart."""


@dataclass(frozen=True, slots=True)
class FaultContext:
    """A cluster under load. `rng` is the fault's own."""

    cluster: Cluster
    recorder: RunRecorder
    rng: random.Random

    async def pause(self, least: float, most: float) -> None:
        """A random time, in s."""
        await asyncio.sleep(self.rng.uniform(least, most))

    def stopped_seconds(self) -> float:
        """How long a stopped process rests: mostly a hiccup, now and then longer than its session in the group."""
        return self.rng.uniform(0.3, 2.5) if self.rng.random() < 0.8 else self.rng.uniform(11.0, 13.0)

    def worker(self) -> SystemProcess:
        """The worker that does the work: the first one, or the other where the first is down."""
        return next(
            (worker for worker in self.cluster.workers if worker.kept and worker.running), self.cluster.workers[0]
        )

    def api(self) -> SystemProcess:
        """One of the APIs."""
        return self.rng.choice(self.cluster.apis)


Inject = Callable[[FaultContext], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A named fault. `inject` does it and heals it, and tells a detail; its docstring says what and how.

    `touches` are the parts that it takes away: two faults overlap only where they touch different ones. `promises` are
    those of the design that it endangers. `needs` is what has to be here for it, of `NEEDS`.
    """

    name: str
    inject: Inject
    touches: frozenset[Component]
    promises: tuple[int, ...]
    needs: str = ""

    @property
    def about(self) -> str:
        """What it does and what heals it."""
        return " ".join((self.inject.__doc__ or "").split())


async def die(member: SystemProcess, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal that ends a member, and wait for its end. One that is just being started again is waited for: the
    signal would hit nobody. Raises FaultNotInjected."""

    async def is_there() -> bool:
        return member.running

    if not await poll_until(is_there, FAILPOINT_SECONDS_MAX):
        raise FaultNotInjected(f"{member.name} was not there")
    ends = len(member.ends)
    member.send(number)
    await ended(member, ends)


async def ended(member: SystemProcess, ends: int) -> None:
    """Wait until a member has ended more often than `ends`. Raises FaultNotInjected."""

    async def has() -> bool:
        return len(member.ends) > ends

    if not await poll_until(has, FAILPOINT_SECONDS_MAX):
        member.disarm()
        raise FaultNotInjected(f"{member.name} did not end")


async def stopped(member: SystemProcess, seconds: float) -> None:
    """Wait until a member stopped at its failpoint and was continued. Raises FaultNotInjected."""

    async def is_stopped() -> bool:
        return member.is_stopped()

    async def goes_on() -> bool:
        return not member.is_stopped()

    if not await poll_until(is_stopped, FAILPOINT_SECONDS_MAX):
        member.disarm()
        raise FaultNotInjected(f"{member.name} did not stop")
    await poll_until(goes_on, seconds + FAILPOINT_SECONDS_MAX)
