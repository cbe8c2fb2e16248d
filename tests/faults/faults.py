"""The list of faults, and the plan of a run: which one strikes when.

In: a seed. Out: every fault that can be made here, in a random order, again and again, with random pauses between.
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
# Pauses between the end of a fault and the next: from at once, while the system still recovers, to well.
PAUSE_SECONDS_MAX = 2.5


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """The n-th fault of a run: `pause_seconds` after the one before it began or, where it `waits`, has ended and the
    system answers again."""

    number: int
    fault: Fault
    pause_seconds: float
    waits: bool


def absent(fault: Fault, shape: ClusterOptions) -> str | None:
    """Why a fault cannot be made here, on a system of this shape; None where it can."""
    if fault.needs == "faketime" and find_faketime() is None:
        return "the Debian package faketime is not installed"
    if fault.needs == "disk" and not shape.disk_mb:
        return "the broker has no disk of its own (--disk-mb, as root)"
    return None


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults of these names, all if there is none. Raises ValueError for a name that is none."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(FAULTS)


def plan(seed: int, faults: Sequence[Fault], pause_seconds_max: float = PAUSE_SECONDS_MAX) -> Iterator[ScheduledFault]:
    """The strikes of a run, without an end: each round holds every fault once, shuffled. None without faults."""
    rng = random.Random(f"{seed}-plan")
    number = 0
    while faults:
        for fault in rng.sample(list(faults), len(faults)):
            number += 1
            yield ScheduledFault(number, fault, rng.uniform(0, pause_seconds_max), rng.random() < 0.6)
