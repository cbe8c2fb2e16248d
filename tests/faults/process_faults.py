"""Faults of workers and APIs: killed or stopped at a failpoint or at any time, a second worker, clock jumps."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

from tests.faults.fault import (
    FAILPOINT_PROBABILITY,
    Fault,
    FaultContext,
    FaultNotInjected,
    make_fault,
    signal_and_wait,
    wait_for_exit,
    wait_for_stop_and_continue,
)
from tests.faults.system_process import SystemProcess
from tests.packages import find_faketime

WORKER_POINTS = (
    "after_apply",
    "before_send",
    "after_send",
    "between_read_and_settle",
    "after_settle",
    "before_answer",
    "mid_batch",
    "before_commit",
)
API_POINTS = ("after_apply", "before_answer")
# Reached only while a worker starts.
STARTUP_POINTS = ("in_takeover", "in_recovery")


async def kill_at(context: FaultContext, kind: str, point: str) -> str:
    """SIGKILL at a failpoint, in the midst of the work; the process manager starts it again."""
    member = context.worker(point) if kind == "worker" else context.api()
    exits = len(member.exits)
    member.arm(f"{point}=kill:{FAILPOINT_PROBABILITY}")
    await wait_for_exit(member, exits)
    return member.name


async def stop_at(context: FaultContext, kind: str, point: str) -> str:
    """SIGSTOP at a failpoint; SIGCONT after a second or two, or after longer than the group waits for a member."""
    member = context.worker(point) if kind == "worker" else context.api()
    seconds = context.stopped_seconds()
    member.arm(f"{point}=stop:{FAILPOINT_PROBABILITY}", stopped_seconds=seconds)
    await wait_for_stop_and_continue(member, seconds)
    return f"{member.name} for {seconds:.1f} s"


async def kill_at_startup(context: FaultContext, point: str) -> str:
    """SIGKILL of the worker, and again at a failpoint on its way back; the process manager starts it a second time."""
    worker = context.worker(point)
    worker.arm(f"{point}=kill", sticky=True)
    try:
        await signal_and_wait(worker)
        await wait_for_exit(worker, len(worker.exits))
    finally:
        worker.disarm()
    return worker.name


async def stop_at_startup(context: FaultContext, point: str) -> str:
    """SIGKILL of the worker, and SIGSTOP at a failpoint on its way back; SIGCONT later."""
    worker = context.worker(point)
    seconds = context.stopped_seconds()
    worker.arm(f"{point}=stop", stopped_seconds=seconds, sticky=True)
    try:
        await signal_and_wait(worker)
        await wait_for_stop_and_continue(worker, seconds)
    finally:
        worker.disarm()
        worker.send_signal(signal.SIGCONT)
    return f"{worker.name} for {seconds:.1f} s"


async def kill_worker(context: FaultContext) -> str:
    """SIGKILL of the worker at any time; the process manager starts it again."""
    await signal_and_wait(context.worker())
    return ""


async def kill_api(context: FaultContext) -> str:
    """SIGKILL of an API at any time; the process manager starts it again."""
    api = context.api()
    await signal_and_wait(api)
    return api.name


async def kill_everything(context: FaultContext) -> str:
    """SIGKILL of every worker and API at once; the process manager starts them again."""
    supervised = [member for member in context.cluster.members if member.supervised]
    await asyncio.gather(*(signal_and_wait(member) for member in supervised))
    return ", ".join(member.name for member in supervised)


async def _stop_for_a_while(context: FaultContext, member: SystemProcess) -> str:
    seconds = context.stopped_seconds()
    member.pause(seconds)
    try:
        await asyncio.sleep(seconds)
    finally:
        member.send_signal(signal.SIGCONT)
    return f"{member.name} for {seconds:.1f} s"


async def stop_worker(context: FaultContext) -> str:
    """SIGSTOP of the worker at any time, for a second or two or for longer than its session; SIGCONT."""
    return await _stop_for_a_while(context, context.worker())


async def stop_api(context: FaultContext) -> str:
    """SIGSTOP of an API at any time; SIGCONT."""
    return await _stop_for_a_while(context, context.api())


async def restart_worker(context: FaultContext) -> str:
    """SIGTERM of the worker, as a deployment does; it is started again."""
    await signal_and_wait(context.worker(), signal.SIGTERM)
    return ""


async def _start_second_worker(context: FaultContext) -> None:
    if context.cluster.workers[1].supervised:
        raise FaultNotInjected("the second worker is there")
    await context.cluster.start_second_worker()


async def second_worker_joins(context: FaultContext) -> str:
    """A second worker joins the group and leaves it in order some seconds later."""
    await _start_second_worker(context)
    await context.pause(4, 9)
    await context.cluster.stop_second_worker()
    return ""


async def second_worker_takes_over(context: FaultContext) -> str:
    """A second worker joins and the first one is stopped for longer than its session: the shard moves to the second,
    and the first one resumes late. The second leaves at the end."""
    cluster = context.cluster
    first = [*cluster.workers[:1], *cluster.publishers[:1]]
    await _start_second_worker(context)
    try:
        await context.pause(4, 6)
        seconds = context.rng.uniform(11, 14)
        for process in first:
            process.pause(seconds)
        await asyncio.sleep(seconds)
        for process in first:
            process.send_signal(signal.SIGCONT)
        await context.pause(2, 4)
    finally:
        for process in first:
            process.send_signal(signal.SIGCONT)
        await cluster.stop_second_worker()
    return ""


async def second_worker_is_killed(context: FaultContext) -> str:
    """A second worker joins and is killed: the group notices when its session has run out."""
    cluster = context.cluster
    await _start_second_worker(context)
    await context.pause(4, 7)
    for process in (*cluster.workers[1:], *cluster.publishers[1:]):
        process.send_signal(signal.SIGKILL)
    await cluster.stop_second_worker()
    await context.pause(1, 11)
    return ""


async def clock_jumps(context: FaultContext, kind: str, by: str) -> str:
    """A process's clock is off by an hour: it is started again under faketime, and some seconds later without."""
    library = find_faketime()
    if library is None:
        raise FaultNotInjected("faketime is not here")
    member = context.worker() if kind == "worker" else context.api()
    member.extra_environ = {"LD_PRELOAD": str(library), "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    try:
        await signal_and_wait(member, signal.SIGTERM)
        await context.pause(5, 9)
    finally:
        member.extra_environ = {}
        await signal_and_wait(member, signal.SIGTERM)
    return member.name


def _at(inject: object, verb: str, kind: str, point: str, *promises: int) -> Fault:
    arguments = {"point": point} if point in STARTUP_POINTS else {"kind": kind, "point": point}
    inject_at = partial(inject, **arguments)  # type: ignore[call-overload]
    inject_at.__doc__ = inject.__doc__
    return make_fault(f"{verb}_{kind}_{point}", inject_at, kind, *promises)


def _clock(kind: str, by: str, name: str) -> Fault:
    inject_at = partial(clock_jumps, kind=kind, by=by)
    inject_at.__doc__ = clock_jumps.__doc__
    return make_fault(name, inject_at, kind, 4, 2, needs="faketime")


PROCESS_FAULTS: tuple[Fault, ...] = (
    *(_at(kill_at, "kill", "worker", point, 1, 2, 3, 4, 5, 6) for point in WORKER_POINTS),
    *(_at(stop_at, "stop", "worker", point, 1, 2, 3, 4, 5) for point in WORKER_POINTS),
    *(_at(kill_at, "kill", "api", point, 2, 3) for point in API_POINTS),
    *(_at(stop_at, "stop", "api", point, 2, 3) for point in API_POINTS),
    *(_at(kill_at_startup, "kill", "worker", point, 2, 3, 5) for point in STARTUP_POINTS),
    *(_at(stop_at_startup, "stop", "worker", point, 2, 3, 5) for point in STARTUP_POINTS),
    make_fault("kill_worker", kill_worker, "worker", 1, 2, 3, 4, 5, 6),
    make_fault("kill_api", kill_api, "api", 2, 3, 5),
    make_fault("kill_everything", kill_everything, "all", 1, 2, 3, 4, 5, 6),
    make_fault("stop_worker", stop_worker, "worker", 1, 2, 3, 5),
    make_fault("stop_api", stop_api, "api", 2, 3, 5),
    make_fault("restart_worker", restart_worker, "worker", 2, 3, 5),
    make_fault("second_worker_joins", second_worker_joins, "worker", 3, 5),
    make_fault("second_worker_takes_over", second_worker_takes_over, "worker", 1, 2, 3, 5),
    make_fault("second_worker_is_killed", second_worker_is_killed, "worker", 3, 5),
    _clock("worker", "+1h", "worker_clock_ahead"),
    _clock("worker", "-1h", "worker_clock_behind"),
    _clock("api", "+1h", "api_clock_ahead"),
    _clock("api", "-1h", "api_clock_behind"),
)
