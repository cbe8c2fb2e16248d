"""The CPU and memory use of processes during a load.

In: process ids by name, of processes on this machine. Out: a `ProcessUsage` of each, sampled once a second until the
process ends. A process that may not be inspected has no points.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from stocktide.loadtest.measure.results import ProcessUsage, ResourceSample

SAMPLE_SECONDS = 1.0
# An idle system and waiting load workers use almost no CPU.
BUSY_LOAD_PER_CORE = 1.0


class ProcessSampler:
    """Samples until cancelled. `clock` gives s since the start of the load."""

    def __init__(self, pids: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: dict[tuple[str, int], list[ResourceSample]] = {}
        self._processes: dict[tuple[str, int], psutil.Process] = {}
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                process.cpu_percent()  # the first call only starts the measurement
            except psutil.Error:
                continue
            self._processes[name, pid] = process
            self._points[name, pid] = []

    async def run(self) -> None:
        """Sample all, once a second."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            at = round(self._clock(), 2)
            for key, process in list(self._processes.items()):
                try:
                    with process.oneshot():
                        use = ResourceSample(at, process.cpu_percent(), process.memory_info().rss)
                except psutil.Error:
                    del self._processes[key]
                else:
                    self._points[key].append(use)

    def uses(self) -> tuple[ProcessUsage, ...]:
        """The samples so far."""
        return tuple(ProcessUsage(name, pid, tuple(points)) for (name, pid), points in self._points.items())


def machine() -> dict[str, Any]:
    """The machine without its name, and its load over the last minute."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": round(os.getloadavg()[0], 2),
    }


def busy_machine_notes(found: Mapping[str, Any]) -> list[str]:
    """A note where the machine was busy before the load began, which lowers all figures."""
    load, cores = found["load_before"], found["cores"]
    if load <= BUSY_LOAD_PER_CORE * cores:
        return []
    return [f"the machine was busy before the load began: its load average was {load:g} on {cores} cores"]
