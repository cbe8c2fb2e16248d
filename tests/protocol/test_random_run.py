"""The random walk over the real code; `soak` walks further. A seed gives the same faults, not the same timing."""

from __future__ import annotations

import pytest

from tests.protocol.random_run import RandomRun
from tests.protocol.rig import ProtocolRig


@pytest.mark.parametrize("seed", range(4))
async def test_no_answer_is_contradicted_whoever_relays_and_whoever_is_late(stage: ProtocolRig, seed: int) -> None:
    await RandomRun(stage, seed, steps=40).run()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
async def test_no_answer_is_contradicted_in_a_longer_walk(stage: ProtocolRig, seed: int) -> None:
    await RandomRun(stage, seed, steps=300).run()
