"""Planted lies between a load test and the system: the load test finds each, and finds nothing where there is none."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from rich.console import Console

from loadtest.flash import hold_sale
from loadtest.flash_options import FlashOptions
from loadtest.results import Results
from tests.integration.lying_api import Lie, lying_api
from tests.system import RunningSystem

pytestmark = pytest.mark.integration


async def sale_with(lie: Lie, running: RunningSystem) -> Results:
    """A small sale of few goods, through the liar."""
    sale: dict[str, Any] = {"shape": "steady", "seconds": 3.0, "rate": 25.0, "skus": 20, "hot": 2, "units": 10}
    async with lying_api(running.api, lie) as (api, liar):
        options = FlashOptions(
            **sale,
            channels=2,
            subscribers=10,
            hold_seconds=4,
            live=False,
            api=api,
            kafka=str(running.ready["kafka"]),
            app_id=running.app_id,
            command=(sys.executable, "-m", "stocktide", "loadtest-tester"),
        )
        found = await hold_sale(options, Console(quiet=True))
        assert bool(liar.told) == (lie != "none"), "the lie was not told"
    return found


def broken(found: Results) -> set[str]:
    return {violation.checker for violation in found.verdict.violations}


async def test_where_nobody_lies_every_promise_is_kept(running: RunningSystem) -> None:
    found = await sale_with("none", running)
    assert (found.verdict.kept, found.verdict.violations) == (True, ())
    # A machine that is busy with other things makes a tester late, which is said; nothing else may be wrong.
    assert [why for why in found.verdict.why_invalid if not why.startswith("the tester sent")] == []
    assert all(found.verdict.checked.values())
    assert (
        found.totals["accepted"] + found.totals["refused"] + found.totals.get("failed", 0)
        == (found.totals["scheduled"])
    )


async def test_an_order_that_is_taken_without_a_unit_for_it_is_found(running: RunningSystem) -> None:
    found = await sale_with("oversell", running)
    assert not found.verdict.kept
    assert "answer_contradicted" in broken(found)
    first = next(violation for violation in found.verdict.violations if violation.checker == "answer_contradicted")
    assert first.promise == 2
    assert any('"state":"reserved"' in line for line in first.evidence)
    assert any('"state":"rejected"' in line for line in first.evidence)


async def test_an_answer_that_nobody_remembers_is_found(running: RunningSystem) -> None:
    found = await sale_with("lost-answer", running)
    assert not found.verdict.kept
    lost = [violation for violation in found.verdict.violations if violation.checker == "answer_lost"]
    assert lost
    assert any('"status":201' in line for line in lost[0].evidence)


async def test_an_update_that_a_subscriber_never_gets_is_found(running: RunningSystem) -> None:
    found = await sale_with("lost-update", running)
    assert not found.verdict.kept
    assert "channel_not_converged" in broken(found)
    first = next(violation for violation in found.verdict.violations if violation.checker == "channel_not_converged")
    assert first.promise == 5
    assert "-HOT-0000" in first.what
