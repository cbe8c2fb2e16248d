"""The arrival times of orders, for each shape of load, as a function of the seed alone.

In: a shape, a duration, a peak rate, a seed. Out: ascending times in s since the start of the load. They are pure
values: the sender keeps to them whatever the system answers.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

Shape = Literal["steady", "ramp", "spike", "wave"]

# Share of the peak before a flash sale opens, and long after its rush.
SPIKE_BASE = 0.05
# The sale opens after this share of the run and reaches its peak within a second.
SPIKE_OPENS = 0.1
SPIKE_RISE_SECONDS = 1.0
# The rush lasts this share of the run, then halves in every further share of this size.
SPIKE_RUSH = 0.5
SPIKE_HALVES = 0.06
# The low of a wave as a share of the peak; waves per run.
WAVE_LOW = 0.1
WAVES = 3.0


def rate_of(shape: Shape, seconds: float, peak: float) -> Callable[[float], float]:
    """The rate in orders/s at a time of the run, never above `peak`."""
    if shape == "ramp":
        return lambda at: peak * at / seconds
    if shape == "wave":
        middle, half = (1 + WAVE_LOW) / 2, (1 - WAVE_LOW) / 2
        return lambda at: peak * (middle - half * math.cos(2 * math.pi * WAVES * at / seconds))
    if shape == "spike":
        return lambda at: peak * _spike(at, seconds)
    return lambda at: peak


def _spike(at: float, seconds: float) -> float:
    opens = SPIKE_OPENS * seconds
    ends = opens + SPIKE_RISE_SECONDS + SPIKE_RUSH * seconds
    if at < opens:
        return SPIKE_BASE
    if at < ends:
        return min(1.0, SPIKE_BASE + (1 - SPIKE_BASE) * (at - opens) / SPIKE_RISE_SECONDS)
    return SPIKE_BASE + (1 - SPIKE_BASE) * math.exp2((ends - at) / (SPIKE_HALVES * seconds))


def arrivals(shape: Shape, seconds: float, peak: float, seed: int | str) -> Iterator[float]:
    """Poisson arrivals.

    By thinning (Lewis and Shedler 1979): arrivals at the peak rate, of which each is kept with its rate's share.
    """
    rng = random.Random(f"{seed}-arrivals")
    rate, at = rate_of(shape, seconds, peak), 0.0
    while True:
        at += rng.expovariate(peak)
        if at >= seconds:
            return
        if rng.random() * peak < rate(at):
            yield at


def sped_up(times: Iterable[float], speed: float, spread_seconds: float, seed: int | str) -> Iterator[float]:
    """The times of a file, in s, relative to its first one and `speed` times as fast.

    A file without seconds would cause bursts, so each time is delayed at random within `spread_seconds` of the file's
    time. `times` ascend, so at most one such span is held back.
    """
    rng = random.Random(f"{seed}-spread")
    held: list[float] = []
    first: float | None = None
    for at in times:
        first = at if first is None else first
        while held and held[0] <= at:
            yield (heapq.heappop(held) - first) / speed
        heapq.heappush(held, at + rng.random() * spread_seconds)
    while held:
        yield (heapq.heappop(held) - (first or 0.0)) / speed
