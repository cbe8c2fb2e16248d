"""`stocktide loadtest` against a real system: every shape and transport ends with a verdict, a page and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stocktide.loadtest.measure.results import LoadTestResults, decode
from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem
from tests.integration.tools.test_replay import retail_file

LOADTEST_SECONDS_MAX = 240.0
SMALL = ("--rate", "20", "--seconds", "4", "--skus", "20", "--hot", "2", "--channels", "2")
FEW = ("--subscribers", "6", "--hold-seconds", "4")


async def loadtest(running: RunningSystem, folder: Path, *options: str) -> tuple[int, LoadTestResults | None, str]:
    """Run the command; its exit status, its results and its output."""
    page, file = folder / "report.html", folder / "report.json"
    reports = ("--report-html", str(page), "--report-json", str(file))
    arguments = ("loadtest", *running.options, *reports, *SMALL, *FEW, *options)
    ended = await run_stocktide(*arguments, seconds_max=LOADTEST_SECONDS_MAX)
    assert "Traceback" not in ended.printed, ended.printed
    found = decode(file.read_bytes()) if file.exists() else None
    if found is not None:
        assert found.verdict.kept, ended.printed
        assert "<html" in page.read_text()
    return ended.status, found, ended.printed


def check(status: int, found: LoadTestResults | None, printed: str) -> LoadTestResults:
    """Every promise was kept and the run is valid, unless a busy machine delayed the load generator."""
    assert found is not None, printed
    assert [why for why in found.verdict.why_invalid if not why.startswith("the load generator sent")] == [], printed
    assert status == (0 if found.verdict.valid else 2), printed
    totals: dict[str, Any] = found.totals
    assert totals["scheduled"] == totals["accepted"] + totals.get("refused", 0) + totals.get("failed", 0)
    assert found.accepted_ms.count == totals["accepted"] > 0
    assert sum(moment.scheduled for moment in found.moments) == totals["scheduled"]
    return found


async def test_a_spike_ends_with_a_verdict_and_a_complete_report(running: RunningSystem, tmp_path: Path) -> None:
    status, results, printed = await loadtest(running, tmp_path, "--units", "12", "--no-live", "--changes", "0.4")
    found = check(status, results, printed)
    assert found.totals["refused"] == found.refused_ms.count > 0
    assert found.totals["updates"] > 0
    assert found.lag_ms.count > 0
    assert {sku.units for sku in found.hot} == {12}
    assert any(point.mode != "in_stock" for sku in found.hot for points in sku.channels.values() for point in points)
    names = {use.name for use in found.processes}
    assert {"tester-1", "tester-subscribers", "tester-lead", "worker", "api"} <= names
    assert (found.settings["seed"], found.settings["shape"]) == (1, "spike")
    happened = ("pools", "announcements", "announcements_that_slipped", "late_receipts", "orders_sold_already")
    assert all(found.totals[f"changes.{name}"] for name in happened), found.totals
    assert "no promise was broken" in printed


@pytest.mark.soak
async def test_by_kafka_an_order_is_answered_by_its_row(running: RunningSystem, tmp_path: Path) -> None:
    check(*await loadtest(running, tmp_path, "--shape", "steady", "--door", "kafka"))


async def test_a_run_by_both_doors_and_two_processes_is_judged_from_its_file(
    running: RunningSystem, tmp_path: Path
) -> None:
    run, page, file = (str(tmp_path / name) for name in ("run.gz", "page.html", "report.json"))
    options = (*running.options, *SMALL, *FEW, "--shape", "wave", "--door", "both", "--processes", "2")
    ended = await run_stocktide("loadtest", "run", *options, "--run-file", run, seconds_max=LOADTEST_SECONDS_MAX)
    assert (ended.status, f"written: {run}" in ended.printed) == (0, True), ended.printed
    drawn = await run_stocktide("loadtest", "report", run, "--report-html", page, "--report-json", file)
    assert drawn.status == 0, drawn.printed
    judged = await run_stocktide("loadtest", "judge", run)
    found = check(judged.status, decode(Path(file).read_bytes()), judged.printed)  # noqa: ASYNC240
    assert "no promise was broken" in judged.printed
    assert {"tester-1", "tester-2"} <= {use.name for use in found.processes}


@pytest.mark.soak
async def test_a_search_climbs_and_lists_each_step(running: RunningSystem, tmp_path: Path) -> None:
    options = ("--shape", "search", "--seconds", "16", "--rate", "16", "--goal-ms", "8000", "--subscribers", "0")
    found = check(*await loadtest(running, tmp_path, *options))
    assert [step["rate"] for step in found.ladder][:2] == [2, 4]
    assert all(step["kept"] == (step["p99"] <= 8_000 and not step["failed"]) for step in found.ladder if step["p99"])
    assert any("the highest rate that kept p99" in note for note in found.verdict.notes)


async def test_a_real_file_is_pushed_so_many_times_as_fast(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 100)
    # 100 minutes of the file in a few seconds: the first 80 are within the time.
    found = check(*await loadtest(running, tmp_path, "--shape", "file", "--file", str(file), "--speed", "1200"))
    assert 60 <= found.totals["scheduled"] <= 100
    assert (found.settings["file"], found.settings["speed"]) == ("retail.csv", 1200)


async def test_without_a_running_system_the_command_fails_with_a_reason(tmp_path: Path) -> None:
    nowhere = ("--api", "http://127.0.0.1:9", "--kafka", "127.0.0.1:9")
    reports = ("--report-html", str(tmp_path / "page.html"), "--report-json", str(tmp_path / "report.json"))
    ended = await run_stocktide("loadtest", *nowhere, *reports, seconds_max=LOADTEST_SECONDS_MAX)
    assert ended.status == 2
    assert "no API answers at http://127.0.0.1:9" in ended.printed
    assert "Traceback" not in ended.printed
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240
