"""A run in a file: judged again, reported again, compared; and what is no run."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from stocktide.command_line import cli
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.measure.results import BROKEN, FORMAT, INVALID, KEPT, decode
from stocktide.loadtest.oracle.history import HistoryRecord
from stocktide.loadtest.run import run_file
from stocktide.loadtest.run.conclusion import results_of
from stocktide.loadtest.run.run_file import RecordedRun, RunArchive, RunFileError
from tests.unit.test_oracle_caught import shop_with


def recorded(unquiet: str = "") -> RecordedRun:
    """The measurements of a run of one order."""
    meter = LoadMeter()
    meter.count(0, "scheduled")
    meter.count(0, "accepted")
    meter.record("accepted", 0, 0.02)
    settings = {"shape": "spike", "seconds": 60.0, "goal_ms": 100.0, "seed": 1}
    return RecordedRun(settings, {"cores": 2}, "2026-11-11T00:00:00Z", 60.0, (meter.part(),), unquiet, ("a note",))


def correct() -> list[HistoryRecord]:
    return shop_with().quiesce()


def overselling() -> list[HistoryRecord]:
    """The last units to two callers, after a Redis lost its tail."""
    shop = shop_with()
    before = deepcopy(shop.state)
    shop.place("o1", units=7)
    shop.state = before
    shop.place("o2", units=7)
    return shop.quiesce()


def loadtest(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["loadtest", *map(str, arguments)])


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = RunArchive(tmp_path / "run.gz")
    file.write(recorded(), correct())
    assert file.run() == recorded()
    assert list(file.history()) == correct()
    assert results_of(file.run(), file.history) == results_of(recorded(), correct())
    assert [path.name for path in tmp_path.iterdir()] == ["run.gz"]


@pytest.mark.parametrize(
    ("history", "unquiet", "status", "said"),
    [
        (correct, "", KEPT, "no promise was broken"),
        (correct, "rows of this run still come", INVALID, "proves nothing"),
        (overselling, "", BROKEN, "promise 1 is broken"),
    ],
)
def test_a_run_is_judged_again_with_its_status(
    history: Callable[[], list[HistoryRecord]], unquiet: str, status: int, said: str, tmp_path: Path
) -> None:
    RunArchive(tmp_path / "run.gz").write(recorded(unquiet), history())
    done = loadtest("judge", tmp_path / "run.gz")
    assert (done.exit_code, said in done.stdout) == (status, True), done.output
    assert "what was checked" in done.stdout


def test_the_reports_are_those_of_the_judged_run(tmp_path: Path) -> None:
    path, page, file = tmp_path / "run.gz", tmp_path / "page.html", tmp_path / "report.json"
    RunArchive(path).write(recorded(), overselling())
    done = loadtest("report", path, "--report-html", page, "--report-json", file)
    assert done.exit_code == 0, done.output
    assert "Promise broken" in page.read_text()
    assert decode(file.read_bytes()) == results_of(recorded(), overselling())
    compared = loadtest("compare", file, path)
    assert compared.exit_code == BROKEN
    assert "settings that differ" not in compared.stdout


def test_what_is_no_whole_run_is_a_sentence_with_its_path_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.gz"
    RunArchive(path).write(recorded(), correct())
    whole, lines = path.read_bytes(), gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    RunArchive(path).write(structs.replace(recorded(), format=FORMAT + 1), correct())
    for raw, message in (
        (path.read_bytes(), "has format"),
        (b"{}", "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (gzip.compress(b"{}\n"), "no run of a load test"),
        (gzip.compress(b"".join(lines)[:-1]), "no run of a load test"),
        (gzip.compress(b"".join([*lines, b'{"record":"heard"}\n'])), f"line {len(lines) + 1} is no record"),
    ):
        path.write_bytes(raw)
        done = loadtest("judge", path)
        assert (done.exit_code, str(path) in done.stderr, message in done.stderr) == (2, True, True), done.stderr
    path.write_bytes(whole)
    monkeypatch.setattr(run_file, "RUN_BYTES_MAX", 1_000)
    assert "no run of a load test" in loadtest("judge", path).stderr
    assert "cannot be read" in loadtest("judge", tmp_path / "none").stderr
    with pytest.raises(RunFileError, match="more than 1,000 bytes"):
        RunArchive(tmp_path / "other").write(recorded(), correct() * 50)
    assert not (tmp_path / "other").exists()


def test_options_before_a_subcommand_are_refused() -> None:
    done = loadtest("--rate", 5, "run")
    assert (done.exit_code, "options go behind the subcommand: loadtest run" in done.stderr) == (2, True)
