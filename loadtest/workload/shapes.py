"""When orders arrive: for each shape of load the moments, as a function of the seed alone.

In: a shape, how long, how high, a seed. Out: times in s since the start of the load, rising. Nobody waits here: whoever
sends does so at these moments, whatever the system answers.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

Shape = Literal["steady", "ramp", "spike", "wave"]

# Before a flash sale opens, and after its rush, so much of the peak still comes.
SPIKE_BASE = 0.05
# The sale opens after this part of the run; from there to the peak it takes one second.
SPIKE_OPENS = 0.1
SPIKE_RISE_SECONDS = 1.0
# The rush lasts so much of the run; then half of it is gone every so many parts of the run.
SPIKE_RUSH = 0.5
SPIKE_HALVES = 0.06
# A wave goes down to this part of the peak, and comes so often in a run.
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
    """Arrivals by chance (Poisson), as those of shoppers are who know nothing of each other.

    By thinning (Lewis and Shedler 1979): as many as at the peak all the time, of which each moment keeps its share.
    """
    chance = random.Random(f"{seed}-arrivals")
    rate, at = rate_of(shape, seconds, peak), 0.0
    while True:
        at += chance.expovariate(peak)
        if at >= seconds:
            return
        if chance.random() * peak < rate(at):
            yield at


def sped_up(moments: Iterable[float], speed: float, spread_seconds: float, seed: int | str) -> Iterator[float]:
    """Moments of a file, in s, as times since its first one, `speed` times as fast.

    A file that tells minutes only would come in bursts: each moment is moved on by chance within `spread_seconds` of
    the file's time. `moments` rise, so that what is held back is one such span.
    """
    chance = random.Random(f"{seed}-spread")
    held: list[float] = []
    first: float | None = None
    for moment in moments:
        first = moment if first is None else first
        while held and held[0] <= moment:
            yield (heapq.heappop(held) - first) / speed
        heapq.heappush(held, moment + chance.random() * spread_seconds)
    while held:
        yield (heapq.heappop(held) - (first or 0.0)) / speed
