"""The list of faults, and the schedule of a run.

In: a seed. Out: every fault that is available here, repeatedly in random order, with random pauses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.cluster import ClusterOptions
from tests.faults.fault import Fault
from tests.faults.process_faults import PROCESS_FAULTS
from tests.faults.server_faults import SERVER_FAULTS
from tests.packages import find_faketime

FAULTS: tuple[Fault, ...] = (*PROCESS_FAULTS, *SERVER_FAULTS)
# The pause before the next fault: the system may still be recovering, or be recovered.
PAUSE_SECONDS_MAX = 2.5


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """The n-th fault of a run: `pause_seconds` after the previous one began or, if it `waits`, has ended and the system
    answers again."""

    number: int
    fault: Fault
    pause_seconds: float
    waits: bool


def unavailable_reason(fault: Fault, shape: ClusterOptions) -> str | None:
    """Why a fault is unavailable with these options; None if it is available."""
    if fault.needs == "faketime" and find_faketime() is None:
        return "the Debian package faketime is not installed"
    if fault.needs == "disk" and not shape.disk_mb:
        return "the broker has no disk of its own (--disk-mb, as root)"
    return None


def select_faults(names: Sequence[str]) -> list[Fault]:
    """The faults of these names; all of them for no names. Raises ValueError for an unknown name."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(FAULTS)


def plan_faults(
    seed: int, faults: Sequence[Fault], pause_seconds_max: float = PAUSE_SECONDS_MAX
) -> Iterator[ScheduledFault]:
    """The endless schedule of a run: each round contains every fault once, shuffled. Empty without faults."""
    rng = random.Random(f"{seed}-plan")
    number = 0
    while faults:
        for fault in rng.sample(list(faults), len(faults)):
            number += 1
            yield ScheduledFault(number, fault, rng.uniform(0, pause_seconds_max), rng.random() < 0.6)
