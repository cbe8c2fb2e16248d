"""The model of the protocol keeps the promises in every random run; `soak` runs over a million steps more."""

from __future__ import annotations

import pytest

from tests.protocol.model import run

SOAK_STEPS = 1_000_000


def test_the_model_keeps_the_promises_in_a_thousand_runs() -> None:
    assert sum(run(seed).steps for seed in range(1_000)) > 1_000_000


@pytest.mark.soak
def test_the_model_keeps_the_promises_over_many_million_steps() -> None:
    assert sum(run(seed).steps for seed in range(1_000_000, 1_020_000)) > SOAK_STEPS
