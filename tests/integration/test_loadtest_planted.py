"""Planted lies between a load test and the system: the load test finds each, and finds nothing where there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.run.flash_sale import run_flash_sale
from stocktide.loadtest.run.options import FlashSaleOptions
from tests.harness.command import stocktide
from tests.harness.system import RunningSystem
from tests.integration.faulty_proxy import Lie, lying_api

pytestmark = pytest.mark.integration

COMMAND_SECONDS_MAX = 120.0


async def sale_with(lie: Lie, running: RunningSystem) -> LoadTestResults:
    """A small sale of few goods, through the liar."""
    sale: dict[str, Any] = {"shape": "steady", "seconds": 3.0, "rate": 25.0, "skus": 20, "hot": 2, "units": 10}
    async with lying_api(running.api, lie) as (api, liar):
        options = FlashSaleOptions(
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
        found = await run_flash_sale(options, Console(quiet=True))
        assert bool(liar.told) == (lie != "none"), "the lie was not told"
    return found


def broken(found: LoadTestResults) -> set[str]:
    return {violation.checker for violation in found.verdict.violations}


async def test_where_nobody_lies_every_promise_is_kept(running: RunningSystem) -> None:
    found = await sale_with("none", running)
    assert (found.verdict.kept, found.verdict.violations) == (True, ())
    # A machine that is busy with other things makes a tester late, which is said; nothing else may be wrong.
    assert [why for why in found.verdict.why_invalid if not why.startswith("the load generator sent")] == []
    assert all(found.verdict.checked.values())
    assert (
        found.totals["accepted"] + found.totals["refused"] + found.totals.get("failed", 0)
        == (found.totals["scheduled"])
    )


@pytest.mark.soak
async def test_orders_that_are_taken_without_a_unit_for_them_are_found(running: RunningSystem) -> None:
    found = await sale_with("oversell", running)
    assert not found.verdict.kept
    assert {"oversold", "answer_contradicted"} <= broken(found)
    first = found.verdict.violations[0]
    assert (first.checker, first.promise) == ("oversold", 1)
    assert "-HOT-" in first.what
    # The record of what the topic said stands against the record of what the caller was told.
    second = next(violation for violation in found.verdict.violations if violation.checker == "answer_contradicted")
    assert any('"state":"reserved"' in line for line in second.evidence)
    assert any('"state":"rejected"' in line for line in second.evidence)
    assert any("was broken while the run went on" in note for note in found.verdict.notes)


async def test_the_command_says_what_is_broken_and_exits_with_1(running: RunningSystem, tmp_path: Path) -> None:
    async with lying_api(running.api, "oversell") as (api, _):
        ended = await stocktide(
            *("loadtest", "--no-live", "--shape", "steady", "--seconds", "3", "--rate", "25", "--skus", "20"),
            *("--hot", "2", "--units", "10", "--subscribers", "2", "--channels", "2", "--hold-seconds", "4"),
            *("--report-html", str(tmp_path / "a.html"), "--report-json", str(tmp_path / "a.json")),
            *("--api", api, "--kafka", str(running.ready["kafka"]), "--app-id", running.app_id),
            seconds_max=COMMAND_SECONDS_MAX,
        )
    said = ended.printed
    assert ended.status == 1, said
    assert "promise 1 is broken, that nothing is oversold:" in said
    assert '{"record":' in said


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
