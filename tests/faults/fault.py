"""A fault, and the context in which it is injected."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from stocktide.retry import poll_until
from tests.faults.cluster import Cluster
from tests.faults.system_process import SystemProcess

Component = Literal["worker", "api", "redis", "kafka", "client"]
# A failpoint on the path of every order is reached at once; after this time it counts as not reached.
FAILPOINT_SECONDS_MAX = 20.0
# The probability per pass: the process is then busy, and not at its first record.
FAILPOINT_PROBABILITY = 0.1
# The failpoints that a worker passes which publishes; the others are of deciding.
POINTS_OF_BOTH, POINTS_OF_PUBLISHING = ("before_commit",), ("in_recovery",)


class FaultNotInjected(Exception):
    """The fault could not be injected; it is counted separately."""


@dataclass(frozen=True, slots=True)
class FaultContext:
    """A cluster under load. `rng` belongs to the fault."""

    cluster: Cluster
    rng: random.Random

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    def stopped_seconds(self) -> float:
        """How long a process is stopped: mostly briefly, sometimes longer than its session in the group."""
        return self.rng.uniform(0.3, 2.5) if self.rng.random() < 0.8 else self.rng.uniform(11.0, 13.0)

    def worker(self, point: str = "") -> SystemProcess:
        """The active worker: the first one, or the other one while the first is down. Where deciding and publishing are
        apart, one of both; with a failpoint, one that passes it."""
        pools = [self.cluster.workers, self.cluster.publishers][: 1 + self.cluster.shape.apart]
        if len(pools) > 1 and point not in ("", *POINTS_OF_BOTH):
            pools = pools[1:] if point in POINTS_OF_PUBLISHING else pools[:1]
        pool = self.rng.choice(pools) if len(pools) > 1 else pools[0]
        return next((worker for worker in pool if worker.supervised and worker.is_running), pool[0])

    def api(self) -> SystemProcess:
        return self.rng.choice(self.cluster.apis)


Inject = Callable[[FaultContext], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A named fault. `inject` injects and heals it and returns a detail; its docstring describes both.

    `touches` are the components that it takes away: faults overlap only if theirs differ. `promises` are those of the
    design that it endangers. `needs` is a requirement for the fault (see `unavailable_reason`).
    """

    name: str
    inject: Inject
    touches: frozenset[Component]
    promises: tuple[int, ...]
    needs: str = ""

    @property
    def about(self) -> str:
        return " ".join((self.inject.__doc__ or "").split())


def make_fault(
    name: str, inject: Inject, component: Component | Literal["all"], *promises: int, needs: str = ""
) -> Fault:
    """A fault that takes away one component; `all`: workers and APIs."""
    touches: frozenset[Component] = frozenset({"worker", "api"}) if component == "all" else frozenset({component})
    return Fault(name, inject, touches, promises, needs)


async def wait_until(holds: Callable[[], bool], failure: str, seconds_max: float = FAILPOINT_SECONDS_MAX) -> None:
    """Wait until `holds`. Raises FaultNotInjected with `failure`."""

    async def is_true() -> bool:
        return holds()

    if not await poll_until(is_true, seconds_max):
        raise FaultNotInjected(failure)


async def signal_and_wait(member: SystemProcess, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal that ends a member, and wait until it has ended. Waits first for a member that is being restarted.
    Raises FaultNotInjected."""
    await wait_until(lambda: member.is_running, f"{member.name} was not there")
    exits = len(member.exits)
    member.send_signal(number)
    await wait_for_exit(member, exits)


async def wait_for_exit(member: SystemProcess, exits: int) -> None:
    """Wait until a member has ended more often than `exits`. Raises FaultNotInjected."""
    try:
        await wait_until(lambda: len(member.exits) > exits, f"{member.name} did not end")
    except FaultNotInjected:
        member.disarm()
        raise


async def wait_for_stop_and_continue(member: SystemProcess, seconds: float) -> None:
    """Wait until a member stops at its failpoint and is continued. Raises FaultNotInjected."""
    try:
        await wait_until(member.is_stopped, f"{member.name} did not stop")
    except FaultNotInjected:
        member.disarm()
        raise
    with suppress(FaultNotInjected):
        await wait_until(lambda: not member.is_stopped(), "", seconds + FAILPOINT_SECONDS_MAX)
