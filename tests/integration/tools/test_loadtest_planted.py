"""Faults planted between a load test and the system: the load test finds each one, and none where there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stocktide.client.http import KEY_VARIABLE
from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.run.flash_sale import run_flash_sale
from stocktide.loadtest.run.options import FlashSaleOptions
from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem
from tests.integration.faulty_proxy import PlantedFault, faulty_proxy


@pytest.fixture(autouse=True)
def key(running: RunningSystem, monkeypatch: pytest.MonkeyPatch) -> str:
    """The operator's key, in the environment: behind a proxy no command finds it by itself."""
    key = str(running.ready["keys"]["operator"])
    monkeypatch.setenv(KEY_VARIABLE, key)
    return key


async def sale_with(fault: PlantedFault, running: RunningSystem) -> LoadTestResults:
    """A small sale through the faulty proxy."""
    sale: dict[str, Any] = {"shape": "steady", "seconds": 3.0, "rate": 25.0, "skus": 20, "hot": 2, "units": 10}
    async with faulty_proxy(running.api, fault) as (api, proxy):
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
        assert bool(proxy.injected) == (fault != "none"), "the fault was not injected"
    return found


def broken(found: LoadTestResults) -> set[str]:
    return {violation.checker for violation in found.verdict.violations}


@pytest.mark.soak
async def test_without_a_fault_every_promise_is_kept(running: RunningSystem) -> None:
    found = await sale_with("none", running)
    assert (found.verdict.kept, found.verdict.violations) == (True, ())
    # On a busy machine the load generator is late, which makes a run invalid; nothing else may be wrong.
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
    # The record of the topic contradicts the record of the answer.
    second = next(violation for violation in found.verdict.violations if violation.checker == "answer_contradicted")
    assert any('"state":"reserved"' in line for line in second.evidence)
    assert any('"state":"rejected"' in line for line in second.evidence)
    assert any("was broken while the run went on" in note for note in found.verdict.notes)


async def test_the_command_reports_the_violation_and_exits_with_1(
    running: RunningSystem, key: str, tmp_path: Path
) -> None:
    async with faulty_proxy(running.api, "oversell") as (api, _):
        ended = await run_stocktide(
            *("loadtest", "--no-live", "--shape", "steady", "--seconds", "3", "--rate", "25", "--skus", "20"),
            *("--hot", "2", "--units", "10", "--subscribers", "2", "--channels", "2", "--hold-seconds", "4"),
            *("--report-html", str(tmp_path / "a.html"), "--report-json", str(tmp_path / "a.json")),
            *("--api", api, "--kafka", str(running.ready["kafka"]), "--app-id", running.app_id),
            environ={KEY_VARIABLE: key},
        )
    assert ended.status == 1, ended.printed
    assert "promise 1 is broken, that nothing is oversold:" in ended.printed
    assert '{"record":' in ended.printed


@pytest.mark.soak
async def test_an_answer_whose_order_is_lost_is_found(running: RunningSystem) -> None:
    found = await sale_with("lost-answer", running)
    assert not found.verdict.kept
    lost = [violation for violation in found.verdict.violations if violation.checker == "answer_lost"]
    assert lost
    assert any('"status":201' in line for line in lost[0].evidence)


@pytest.mark.soak
async def test_an_update_that_a_subscriber_never_gets_is_found(running: RunningSystem) -> None:
    found = await sale_with("lost-update", running)
    assert not found.verdict.kept
    assert "channel_not_converged" in broken(found)
    first = next(violation for violation in found.verdict.violations if violation.checker == "channel_not_converged")
    assert first.promise == 5
    assert "-HOT-0000" in first.what
