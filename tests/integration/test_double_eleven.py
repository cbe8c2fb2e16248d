"""The example `examples/double-eleven`: its README says what it plays, and what it plays comes out."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness.process import WITH_KEYS, StocktideProcess, started
from tests.harness.system import RunningSystem, SystemFactory

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "double-eleven"
LAUNCHER = (sys.executable, str(FOLDER))
# The start of the embedded servers takes most of it.
EXAMPLE_SECONDS_MAX = 180.0


@pytest.fixture(scope="module")
def example() -> Iterator[Path]:
    """The folder, whose modules can be imported by their names."""
    sys.path.insert(0, str(FOLDER))
    yield FOLDER
    sys.path.remove(str(FOLDER))
    for name in ("calls", "story", "day"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def story(example: Path) -> ModuleType:
    return importlib.import_module("story")


def tables() -> list[list[list[str]]]:
    """The rows of each table of the README, the heading first."""
    blocks = re.findall(r"(?:^\|.*\n)+", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
            if "|--" not in line
        ]
        for block in blocks
    ]


def test_the_readme_has_the_numbers_of_the_story(story: ModuleType) -> None:
    _, day, warehouses, orders, announcements, alerts = tables()
    heading = ["time", "what happens", "SKU", *(name.replace("_", " ") for name in story.COUNTERS), *story.CHANNELS]
    assert day[0] == heading
    rows = iter(day[1:])
    for step in story.STEPS:
        for index, expected in enumerate(step.after):
            at, text, sku, *cells = next(rows)
            assert (at, text) == ((step.at, step.text) if index == 0 else ("", ""))
            counters = tuple(int(cell or 0) for cell in cells[: len(story.COUNTERS)])
            channels = tuple(cell.replace("–", "-") for cell in cells[len(story.COUNTERS) :])
            assert story.Numbers(sku, counters, channels) == expected, step.at
    assert next(rows, None) is None
    assert {(sku, place): tuple(map(int, cells)) for sku, place, *cells in warehouses[1:]} == story.WAREHOUSES
    assert dict(orders[1:]) == story.ORDERS
    names = announcements[0][1:]
    found = {id: dict(zip(names, cells, strict=True)) for id, *cells in announcements[1:]}
    assert found == {id: {name: str(is_so[name]) for name in names} for id, is_so in story.ANNOUNCEMENTS.items()}
    assert {(kind, sku, ids): int(units) for kind, sku, ids, units in alerts[1:]} == story.ALERTS


def test_the_counters_of_each_row_follow_from_each_other(story: ModuleType) -> None:
    for step in story.STEPS:
        for row in step.after:
            units = dict(zip(story.COUNTERS, row.counters, strict=True))
            taken = sum(units[name] for name in ("committed", "locked", "reserved", "short"))
            assert units["available"] == units["on_hand"] - taken, (step.at, row.sku)


def test_the_end_by_warehouse_is_the_end_of_the_day(story: ModuleType) -> None:
    last = {row.sku: dict(zip(story.COUNTERS, row.counters, strict=True)) for step in story.STEPS for row in step.after}
    for place, name in enumerate(("on_hand", "committed", "available", "damaged")):
        for sku, units in last.items():
            assert sum(cells[place] for (each, _), cells in story.WAREHOUSES.items() if each == sku) == units[name]


def test_every_order_of_the_story_has_one_end(story: ModuleType) -> None:
    placed = {call.body["order_id"] for step in story.STEPS for call in step.calls if call.kind == "order.placed"}
    ended = " ".join(story.ORDERS.values()).split()
    assert sorted(ended) == sorted(placed)


def rows_of(story: ModuleType) -> int:
    return sum(len(step.after) for step in story.STEPS)


@pytest.mark.soak
async def test_one_command_plays_the_day_and_leaves_nothing(story: ModuleType, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **WITH_KEYS}
    process = StocktideProcess("example", ("--port", "0"), environ, tmp_path / "log", launcher=LAUNCHER)
    async with started(process) as example:
        assert await example.wait(EXAMPLE_SECONDS_MAX) == 0, example.log_tail()
    printed = process.output
    assert "no differences" in printed and "✗" not in printed
    assert len(re.findall("✓$", printed, re.MULTILINE)) == rows_of(story)
    assert "each follows from the one before" in printed
    assert not list(scratch.iterdir())


async def play(running: RunningSystem, log: Path) -> StocktideProcess:
    """Play the day on a running system, to its end."""
    process = StocktideProcess("example", ("--api", running.api), {"PYTHONPATH": str(ROOT)}, log, launcher=LAUNCHER)
    await process.start()
    await process.wait(EXAMPLE_SECONDS_MAX)
    return process


async def history_of(running: RunningSystem, sku: str) -> dict[str, Any]:
    done = await running.run("explain", sku, "--json")
    assert done.status == 0, done
    history: dict[str, Any] = json.loads(done.out)
    return history


def adds_up(before: dict[str, Any], change: dict[str, Any]) -> None:
    """Each number after the change is the one before with what its counters changed by."""
    by_kind: dict[str, int] = {}
    for name, units in change["change"].items():
        kind = re.split("[@#]", name)[0]
        by_kind[kind] = by_kind.get(kind, 0) + units
    after = change["after"]
    for kind in ("on_hand", "committed", "locked", "reserved", "short", "preordered", "incoming", "damaged"):
        assert after[kind] == before[kind] + by_kind.pop(kind, 0), (change["told"], kind)
    assert not by_kind
    assert after["available"] == after["on_hand"] - sum(
        after[kind] for kind in ("committed", "locked", "reserved", "short")
    )


async def test_explain_accounts_for_every_sku_of_the_day(
    story: ModuleType, system: SystemFactory, tmp_path: Path
) -> None:
    running = await system(environ=WITH_KEYS)
    played = await play(running, tmp_path / "log")
    assert "no differences" in played.output, played.log_tail()
    histories = await asyncio.gather(*(history_of(running, row.sku) for row in story.MIDNIGHT.after))
    for history in histories:
        assert history["explained"] and history["from_the_beginning"]
        before = dict.fromkeys(history["changes"][0]["after"], 0)
        for change in history["changes"]:
            adds_up(before, change)
            before = change["after"]
        assert before == {name: history["now"][name] for name in before}
    refused = await play(running, tmp_path / "again")
    assert await refused.wait() == 1 and "holds nothing yet" in refused.output


async def test_a_number_that_differs_is_shown(story: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    day = importlib.import_module("day")
    monkeypatch.setattr(day, "WAIT_SECONDS_MAX", 0.0)
    printed: list[str] = []
    played = day.Day(None, "", "", printed.append)
    expected = story.MIDNIGHT.after[0]
    stock: dict[str, Any] = {"channels": {}, **dict(zip(story.COUNTERS, expected.counters, strict=True))}
    stock["channels"] = {name: {"mode": "in_stock", "quantity": 20} for name in story.CHANNELS}

    async def get(_: str) -> Any:
        return stock

    monkeypatch.setattr(played, "_get", get)
    await played._check_numbers(expected)
    assert played.differences == 1 and printed[0].endswith("✗")
    stock["channels"]["shopify"]["quantity"] = 9
    await played._check_numbers(expected)
    assert played.differences == 1 and printed[-1].endswith("✓")
