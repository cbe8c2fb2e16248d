"""The CPU time of processes per order.

In: process ids by name, at the beginning and the end of a measured window. Out: µs per order of each.
"""

from __future__ import annotations

from collections.abc import Mapping

import psutil

# Not a part of the system that is measured.
LOAD = "load generator"


class CpuMeter:
    """Reads the user and system time of each process and its children, those that have ended included."""

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._began: dict[str, float] = {}
        self.us_each: dict[str, float] = {}

    def begin(self) -> None:
        """Begin the window."""
        self._began = self._read()

    def end(self, orders: int) -> None:
        """End it: `us_each` is then the time per order, by name."""
        self.us_each = {name: (now - self._began[name]) * 1e6 / orders for name, now in self._read().items()}

    def _read(self) -> dict[str, float]:
        trees = {name: [process, *process.children(recursive=True)] for name, process in self._processes.items()}
        # user, system, and the same of the ended children
        return {name: sum(sum(each.cpu_times()[:4]) for each in tree) for name, tree in trees.items()}


def system_us(us_each: Mapping[str, float]) -> float:
    """The time of all processes but the load generator."""
    return sum(us for name, us in us_each.items() if name != LOAD)


def describe_cpu(us_each: Mapping[str, float]) -> str:
    """`160 µs (API 60, worker 50, Kafka 25, Valkey 25; load generator 40)`."""
    parts = ", ".join(f"{name} {us:.0f}" for name, us in us_each.items() if name != LOAD)
    load = f"; {LOAD} {us_each[LOAD]:.0f}" if LOAD in us_each else ""
    return f"{system_us(us_each):.0f} µs ({parts}{load})"
