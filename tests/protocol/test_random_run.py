"""The random run over the real code; `soak` runs longer. A seed repeats the faults, not their timing."""

from __future__ import annotations

import pytest

from tests.protocol.random_run import RandomRun
from tests.protocol.rig import ProtocolRig


@pytest.mark.parametrize(
    ("seed", "steps"),
    [
        *((seed, 40) for seed in range(4)),
        *(pytest.param(seed, 300, marks=pytest.mark.soak) for seed in range(100, 160)),
    ],
)
async def test_no_answer_is_contradicted_whichever_relay_runs_or_is_late(
    rig: ProtocolRig, seed: int, steps: int
) -> None:
    await RandomRun(rig, seed, steps).run()
