"""Two load tests side by side: what differs, by how much, and when that means nothing."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec import structs
from rich.console import Console

from stocktide.loadtest.measure.results import BROKEN, FORMAT, INVALID, KEPT, Latencies, LoadTestResults, encode
from stocktide.loadtest.report.compare import Comparison, ComparisonRow, compare, show
from stocktide.ops.loadtest import compare_command
from tests.unit.sample_results import broken, flash_sale, not_valid, search


def row(comparison: Comparison, name: str, group: str = "") -> ComparisonRow:
    return next(row for row in comparison.rows if row.name == name and row.group.startswith(group))


def shown(comparison: Comparison, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(comparison, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def line(text: str, start: str) -> list[str]:
    """The cells of the table's line that begins with `start`."""
    cells = [[cell.strip() for cell in each.split("│")[1:-1]] for each in text.splitlines() if "│" in each]
    return next(each for each in cells if each[0] == start)


def faster(results: LoadTestResults, p99: float) -> LoadTestResults:
    return structs.replace(results, accepted_ms=structs.replace(results.accepted_ms, p99=p99))


def test_the_same_run_twice_differs_in_nothing() -> None:
    comparison = compare(flash_sale(), flash_sale())
    assert comparison.comparable
    assert comparison.settings == comparison.machine == {}
    assert {row.change_percent for row in comparison.rows} == {0.0}
    assert comparison.status == KEPT


def test_a_difference_is_shown_in_percent_of_the_first_and_as_better_or_worse() -> None:
    comparison = compare(faster(flash_sale(), 40.0), faster(flash_sale(), 30.0))
    assert row(comparison, "accepted p99").change_percent == pytest.approx(-25.0)
    assert line(shown(comparison), "accepted p99") == ["accepted p99", "40.0 ms", "30.0 ms", "-25.0 %", "better"]
    back = shown(compare(faster(flash_sale(), 30.0), faster(flash_sale(), 40.0)))
    assert line(back, "accepted p99")[-2:] == ["+33.3 %", "worse"]


def test_a_small_difference_is_not_called_better_or_worse() -> None:
    text = shown(compare(faster(flash_sale(), 40.0), faster(flash_sale(), 39.0)))
    assert line(text, "accepted p99")[-2:] == ["-2.5 %", ""]


def test_failures_where_there_were_none_are_worse_though_no_percentage_says_so() -> None:
    fine = flash_sale()
    fine = structs.replace(fine, moments=tuple(structs.replace(moment, failed=0) for moment in fine.moments))
    cells = line(shown(compare(fine, flash_sale())), "failed")
    assert cells[1] == "0"
    assert cells[-2:] == ["", "worse"]


def test_a_figure_that_one_run_lacks_is_none_and_never_zero() -> None:
    quiet = structs.replace(flash_sale(), lag_ms=Latencies(), processes=())
    comparison = compare(flash_sale(), quiet)
    assert (row(comparison, "lag p99").b, row(comparison, "worker", "CPU").b) == (None, None)
    assert line(shown(comparison), "lag p99")[2:4] == ["none", ""]


def test_cpu_is_that_of_the_load_and_not_of_what_came_after_it() -> None:
    sale = flash_sale()
    busy_later = tuple(
        structs.replace(use, points=(*use.points, structs.replace(use.points[-1], at=999.0, cpu_percent=100_000.0)))
        for use in sale.processes
    )
    comparison = compare(sale, structs.replace(sale, processes=busy_later))
    assert row(comparison, "worker", "CPU").change_percent == 0.0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (flash_sale(seconds=30), "they ran with different settings: seconds 60 and 30"),
        (structs.replace(flash_sale(), machine={**flash_sale().machine, "cores": 8}), "machines: cores 2 and 8"),
        (not_valid(), "B is not valid: 4.2 % of the orders were sent late by the load generator"),
        (broken(), "B broke a promise"),
    ],
)
def test_runs_that_cannot_be_compared_are_neither_better_nor_worse(other: LoadTestResults, message: str) -> None:
    comparison = compare(flash_sale(), faster(other, 1.0))
    text = shown(comparison, 160)
    assert not comparison.comparable
    assert "The two are not comparable:" in text
    assert message in text
    assert line(text, "accepted p99")[-1] == ""


def test_another_seed_or_a_few_bytes_of_memory_do_not_make_another_kind_of_run() -> None:
    sale, other = flash_sale(), flash_sale(seed=9)
    machine = {**sale.machine, "memory_bytes": sale.machine["memory_bytes"] + 4096, "load_before": 0.1}
    comparison = compare(sale, structs.replace(other, machine=machine))
    assert comparison.comparable
    assert comparison.settings == {"seed": ("7", "9")}
    assert any("the seeds differ" in note for note in comparison.notes)


def test_a_machine_that_was_busy_before_is_noted() -> None:
    sale = flash_sale()
    busy = structs.replace(sale, machine={**sale.machine, "load_before": 3.5})
    assert "busy before B began: its load average was 3.5 on 2 cores" in shown(compare(sale, busy), 160)


@pytest.mark.parametrize(
    ("a", "b", "status"),
    [
        (flash_sale(), flash_sale(), KEPT),
        (broken(), flash_sale(), KEPT),
        (flash_sale(), broken(), BROKEN),
        (not_valid(), broken(), BROKEN),
        (not_valid(), flash_sale(), INVALID),
        (flash_sale(), not_valid(), INVALID),
    ],
)
def test_a_broken_promise_of_b_has_precedence_in_the_status(
    a: LoadTestResults, b: LoadTestResults, status: int
) -> None:
    assert compare(a, b).status == status


def test_a_search_is_compared_by_the_highest_rate_that_kept_the_goal() -> None:
    assert row(compare(search(50.0), search(10.0)), "highest that kept the goal").change_percent == pytest.approx(-80)


@pytest.mark.parametrize("width", [80, 120])
def test_the_figures_fit_their_terminal(width: int) -> None:
    text = shown(compare(flash_sale(), flash_sale(seconds=30, seed=3)), width)
    assert max(len(each) for each in text.splitlines() if "│" in each) <= width


def test_a_name_from_a_report_gives_no_command_to_the_terminal() -> None:
    sale = structs.replace(flash_sale(), settings={"\x1b[2J[red]": "\x1b[2J"})
    text = shown(compare(flash_sale(), sale))
    assert "\x1b" not in text
    assert "?[2J[red]" in text


def files(folder: Path, a: LoadTestResults, b: LoadTestResults) -> list[str]:
    """Both as JSON reports."""
    paths = [folder / "a.json", folder / "b.json"]
    for path, results in zip(paths, (a, b), strict=True):
        path.write_bytes(encode(results))
    return [str(path) for path in paths]


def test_the_command_prints_json_and_exits_with_the_status(tmp_path: Path) -> None:
    done = CliRunner().invoke(compare_command, [*files(tmp_path, flash_sale(), broken()), "--json"])
    report = msgspec.json.decode(done.stdout)
    assert done.exit_code == report["status"] == BROKEN
    assert report["b"]["violations"] == 1
    assert report["rows"][0].keys() >= {"group", "name", "unit", "a", "b", "change_percent"}


def test_what_is_no_report_or_of_another_format_is_a_sentence_and_status_2(tmp_path: Path) -> None:
    good, other = files(tmp_path, flash_sale(), structs.replace(flash_sale(), format=FORMAT + 1))
    torn = tmp_path / "torn.json"
    torn.write_bytes(b'{"settings": 1')
    for path, message in (
        (other, "has format"),
        (str(torn), "no report"),
        (str(tmp_path / "none.json"), "cannot be read"),
    ):
        done = CliRunner().invoke(compare_command, [good, path])
        assert done.exit_code == 2
        assert message in done.stderr
