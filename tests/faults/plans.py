"""The runs in which mutants are seen: short, with the few faults that it takes, at moments that were chosen.

They name things of the suite and import none, so that whoever plants a mutant can read them first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MutantRunPlan:
    """A short run: `faults` strike for `seconds`, at moments that follow from `seed`; at least `strikes_min`."""

    name: str
    about: str
    seed: int
    seconds: float
    faults: tuple[str, ...] = ()
    strikes_min: int = 0
    replica: bool = False


CALM = MutantRunPlan("calm", "nothing fails", seed=1, seconds=10)
RESTART = MutantRunPlan("restart", "the worker is killed", seed=1, seconds=9, faults=("kill_worker",), strikes_min=1)
# The journal takes nothing for 3.5 s, and meanwhile Redis loses what was decided since.
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
# Longer than work may wait and nothing move.
LONG_CALM = MutantRunPlan("long_calm", "nothing fails, for longer than work may wait", seed=1, seconds=25)
PLANS = (CALM, RESTART, FORGET, FORK, TWO_OWNERS, LONG_CALM)
