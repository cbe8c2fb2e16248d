"""Faults of our own processes: killed or stopped at a named point or at any time, a second worker, clocks that jump."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

from tests.faults.fault import FAILPOINT_PROBABILITY, Fault, FaultContext, FaultNotInjected, Inject, die, ended, stopped
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
# Reached only by a worker that begins anew.
BEGINNING_POINTS = ("in_takeover", "in_recovery")


async def kill_at(scene: FaultContext, kind: str, point: str) -> str:
    """SIGKILL at a failpoint, in the midst of the work; the process manager starts it again."""
    member = scene.worker() if kind == "worker" else scene.api()
    ends = len(member.ends)
    member.arm(f"{point}=kill:{FAILPOINT_PROBABILITY}")
    await ended(member, ends)
    return member.name


async def stop_at(scene: FaultContext, kind: str, point: str) -> str:
    """SIGSTOP at a failpoint; SIGCONT after a second or two, or after longer than the group waits for a member."""
    member = scene.worker() if kind == "worker" else scene.api()
    seconds = scene.stopped_seconds()
    member.arm(f"{point}=stop:{FAILPOINT_PROBABILITY}", stopped_seconds=seconds)
    await stopped(member, seconds)
    return f"{member.name} for {seconds:.1f} s"


async def kill_beginning_at(scene: FaultContext, point: str) -> str:
    """SIGKILL of the worker, and again at a failpoint on its way back; the process manager starts it a second time."""
    worker = scene.worker()
    worker.arm(f"{point}=kill", sticky=True)
    try:
        await die(worker)
        await ended(worker, len(worker.ends))
    finally:
        worker.disarm()
    return worker.name


async def stop_beginning_at(scene: FaultContext, point: str) -> str:
    """SIGKILL of the worker, and SIGSTOP at a failpoint on its way back; SIGCONT later."""
    worker = scene.worker()
    seconds = scene.stopped_seconds()
    worker.arm(f"{point}=stop", stopped_seconds=seconds, sticky=True)
    try:
        await die(worker)
        await stopped(worker, seconds)
    finally:
        worker.disarm()
        worker.send(signal.SIGCONT)
    return f"{worker.name} for {seconds:.1f} s"


async def kill_worker(scene: FaultContext) -> str:
    """SIGKILL of the worker at any time; the process manager starts it again."""
    await die(scene.worker())
    return ""


async def kill_api(scene: FaultContext) -> str:
    """SIGKILL of an API at any time; the process manager starts it again."""
    api = scene.api()
    await die(api)
    return api.name


async def kill_everything(scene: FaultContext) -> str:
    """SIGKILL of every worker and API at once; the process manager starts them again."""
    kept = [member for member in scene.cluster.members if member.kept]
    await asyncio.gather(*(die(member) for member in kept))
    return ", ".join(member.name for member in kept)


async def _stop_any(scene: FaultContext, member: SystemProcess) -> str:
    seconds = scene.stopped_seconds()
    member.halt(seconds)
    try:
        await asyncio.sleep(seconds)
    finally:
        member.send(signal.SIGCONT)
    return f"{member.name} for {seconds:.1f} s"


async def stop_worker(scene: FaultContext) -> str:
    """SIGSTOP of the worker at any time, for a second or two or for longer than its session; SIGCONT."""
    return await _stop_any(scene, scene.worker())


async def stop_api(scene: FaultContext) -> str:
    """SIGSTOP of an API at any time; SIGCONT."""
    return await _stop_any(scene, scene.api())


async def restart_worker(scene: FaultContext) -> str:
    """SIGTERM of the worker, as a deployment does; it is started again."""
    await die(scene.worker(), signal.SIGTERM)
    return ""


async def second_worker_joins(scene: FaultContext) -> str:
    """A second worker joins the group and leaves it in order some seconds later."""
    second = scene.cluster.workers[1]
    if second.kept:
        raise FaultNotInjected("the second worker is there")
    await second.start()
    await scene.pause(4, 9)
    await second.stop()
    return ""


async def second_worker_takes_over(scene: FaultContext) -> str:
    """A second worker joins and the first one is stopped for longer than its session: the shard moves to the second,
    and the first wakes up to a world that has moved on. The second leaves at the end."""
    first, second = scene.cluster.workers
    if second.kept:
        raise FaultNotInjected("the second worker is there")
    await second.start()
    try:
        await scene.pause(4, 6)
        seconds = scene.rng.uniform(11, 14)
        first.halt(seconds)
        await asyncio.sleep(seconds)
        first.send(signal.SIGCONT)
        await scene.pause(2, 4)
    finally:
        first.send(signal.SIGCONT)
        await second.stop()
    return ""


async def second_worker_is_killed(scene: FaultContext) -> str:
    """A second worker joins and is killed: the group notices when its session has run out."""
    second = scene.cluster.workers[1]
    if second.kept:
        raise FaultNotInjected("the second worker is there")
    await second.start()
    await scene.pause(4, 7)
    second.send(signal.SIGKILL)
    await second.stop()
    await scene.pause(1, 11)
    return ""


async def clock_jumps(scene: FaultContext, kind: str, by: str) -> str:
    """A process's clock is off by an hour: it is started again under faketime, and some seconds later without."""
    library = find_faketime()
    if library is None:
        raise FaultNotInjected("faketime is not here")
    member = scene.worker() if kind == "worker" else scene.api()
    member.more = {"LD_PRELOAD": str(library), "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    try:
        await die(member, signal.SIGTERM)
        await scene.pause(5, 9)
    finally:
        member.more = {}
        await die(member, signal.SIGTERM)
    return member.name


def _fault(name: str, inject: Inject, part: str, *promises: int, needs: str = "") -> Fault:
    touches = frozenset({"worker", "api"} if part == "all" else {part})
    return Fault(name, inject, touches, promises or (1, 2, 3), needs)  # type: ignore[arg-type]


def _at(inject: object, verb: str, kind: str, point: str, *promises: int) -> Fault:
    more = {"point": point} if point in BEGINNING_POINTS else {"kind": kind, "point": point}
    done = partial(inject, **more)  # type: ignore[call-overload]
    done.__doc__ = inject.__doc__
    return _fault(f"{verb}_{kind}_{point}", done, kind, *promises)


def _clock(kind: str, by: str, name: str) -> Fault:
    done = partial(clock_jumps, kind=kind, by=by)
    done.__doc__ = clock_jumps.__doc__
    return _fault(name, done, kind, 4, 2, needs="faketime")


PROCESS_FAULTS: tuple[Fault, ...] = (
    *(_at(kill_at, "kill", "worker", point, 1, 2, 3, 4, 5, 6) for point in WORKER_POINTS),
    *(_at(stop_at, "stop", "worker", point, 1, 2, 3, 4, 5) for point in WORKER_POINTS),
    *(_at(kill_at, "kill", "api", point, 2, 3) for point in API_POINTS),
    *(_at(stop_at, "stop", "api", point, 2, 3) for point in API_POINTS),
    *(_at(kill_beginning_at, "kill", "worker", point, 2, 3, 5) for point in BEGINNING_POINTS),
    *(_at(stop_beginning_at, "stop", "worker", point, 2, 3, 5) for point in BEGINNING_POINTS),
    _fault("kill_worker", kill_worker, "worker", 1, 2, 3, 4, 5, 6),
    _fault("kill_api", kill_api, "api", 2, 3, 5),
    _fault("kill_everything", kill_everything, "all", 1, 2, 3, 4, 5, 6),
    _fault("stop_worker", stop_worker, "worker", 1, 2, 3, 5),
    _fault("stop_api", stop_api, "api", 2, 3, 5),
    _fault("restart_worker", restart_worker, "worker", 2, 3, 5),
    _fault("second_worker_joins", second_worker_joins, "worker", 3, 5),
    _fault("second_worker_takes_over", second_worker_takes_over, "worker", 1, 2, 3, 5),
    _fault("second_worker_is_killed", second_worker_is_killed, "worker", 3, 5),
    _clock("worker", "+1h", "worker_clock_ahead"),
    _clock("worker", "-1h", "worker_clock_behind"),
    _clock("api", "+1h", "api_clock_ahead"),
    _clock("api", "-1h", "api_clock_behind"),
)
