"""The runs in which mutants are detected: short, with the few faults that are needed, at chosen times.

The module imports nothing of the suite, so that a mutant can be installed before the product is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MutantRunPlan:
    """A short run: `faults` are injected for `seconds`, at times that follow from `seed`; at least `strikes_min`."""

    name: str
    about: str
    seed: int
    seconds: float
    faults: tuple[str, ...] = ()
    strikes_min: int = 0
    replica: bool = False


CALM = MutantRunPlan("calm", "nothing fails", seed=1, seconds=10)
RESTART = MutantRunPlan("restart", "the worker is killed", seed=1, seconds=9, faults=("kill_worker",), strikes_min=1)
# The journal refuses records for 3.5 s, and meanwhile Redis loses the decisions since then.
FORGET = MutantRunPlan(
    "forget",
    "the journal refuses, and then Redis is empty",
    seed=15,
    seconds=8,
    faults=("refuse_produce", "flush_redis"),
    strikes_min=2,
)
FORK = MutantRunPlan(
    "fork",
    "a replica decides for three seconds, and then the old primary is back",
    seed=21,
    seconds=12,
    faults=("return_to_old_primary",),
    strikes_min=1,
    replica=True,
)
TWO_OWNERS = MutantRunPlan(
    "two_owners",
    "the shard moves to a second worker while the first is stopped, and the first wakes up",
    seed=86,
    seconds=30,
    faults=("second_worker_takes_over",),
    strikes_min=2,
)
# Longer than the stall limit.
LONG_CALM = MutantRunPlan("long_calm", "nothing fails, for longer than work may wait", seed=1, seconds=25)
PLANS = (CALM, RESTART, FORGET, FORK, TWO_OWNERS, LONG_CALM)
