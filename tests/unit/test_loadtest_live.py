"""The view of a running load test: on a terminal, and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stocktide.loadtest.report.live import (
    HOT_SHOWN_MAX,
    LINE_EVERY_SECONDS,
    LiveSnapshot,
    LiveView,
    snapshot_line,
    sparkline,
)

HOT = (("flash-1", 82, "in_stock"), ("flash-2", 0, "sold_out"), ("flash-3", 0, "preorder"))


def snapshot_at(seconds: float, **given: object) -> LiveSnapshot:
    rates = {"scheduled": 400.0, "accepted": 280.0, "refused": 0.0, "failed": 0.0}
    return LiveSnapshot(seconds=seconds, planned_seconds=60.0, rates=rates, **given)  # type: ignore[arg-type]


def shown(snapshot: LiveSnapshot, width: int = 80, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, **options)  # type: ignore[arg-type]
    live = LiveView(console)
    with console.capture() as capture:
        console.print(live.view(snapshot))
    return capture.get()


def logged(*snapshots: LiveSnapshot) -> list[str]:
    """The lines on a console that is no terminal."""
    file = io.StringIO()
    with LiveView(Console(file=file, width=80)) as live:
        for snapshot in snapshots:
            live.update(snapshot)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_fits_its_terminal_and_says_the_rates_and_the_stock_left(width: int) -> None:
    text = shown(snapshot_at(29, p99_ms=48.2, in_flight=1234, hot=HOT), width, color_system=None)
    assert max(len(line) for line in text.splitlines()) <= width
    for part in ("0:29 of 1:00", "48%", "scheduled", "400/s", "280/s", "48 ms", "1,234", "flash-1", "82", "sold out"):
        assert part in text


def test_many_hot_skus_still_fit_into_24_lines_and_the_rest_is_counted() -> None:
    hot = tuple((f"flash-{number}", number, "in_stock") for number in range(HOT_SHOWN_MAX + 5))
    lines = shown(snapshot_at(1, hot=hot)).splitlines()
    assert len(lines) <= 24
    assert "and 5 more" in lines[-1]


def test_a_broken_promise_is_red_and_said_in_words() -> None:
    text = shown(snapshot_at(30, violations=2, first_violation="flash-1 is oversold"), color_system="standard")
    assert "\x1b[1;31m2 promises broken\x1b[0m" in text
    assert "flash-1 is oversold" in text
    assert "no promise broken so far" in shown(snapshot_at(30), color_system=None)


def test_a_name_from_outside_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    text = shown(snapshot_at(1, violations=1, first_violation="\x1b[2Jgone", hot=(("[red]x[/red]", 1, "in_stock"),)))
    assert "[red]x[/red]" in text
    assert "\x1b[2J" not in text
    assert "\x1b[2J" not in snapshot_line(snapshot_at(1, violations=1, first_violation="\x1b[2Jgone"))


def test_a_time_of_nothing_is_not_shown_as_a_good_time() -> None:
    assert "p50 -  p99 -" in snapshot_line(snapshot_at(1))
    assert "p50 0.4 ms  p99 12.3 s" in snapshot_line(snapshot_at(1, p50_ms=0.4, p99_ms=12_345))


def test_a_log_gets_a_line_every_five_seconds_and_the_last_one() -> None:
    lines = logged(*(snapshot_at(half / 2) for half in range(25)))
    assert [line.split()[0] for line in lines] == ["0/60", "5/60", "10/60", "12/60"]
    assert LINE_EVERY_SECONDS == 5.0
    assert all("\x1b" not in line for line in lines)


def test_a_log_gets_a_new_violation_at_once_and_once() -> None:
    reported = snapshot_at(1, violations=1, first_violation="flash-1 is oversold")
    lines = logged(
        snapshot_at(0), snapshot_at(0.5), reported, snapshot_at(1.5, violations=1), snapshot_at(2, violations=1)
    )
    assert [line.split()[0] for line in lines] == ["0/60", "1/60", "2/60"]
    assert "VIOLATIONS 1: flash-1 is oversold" in lines[1]


def test_what_comes_after_the_load_is_not_counted_as_load() -> None:
    assert "1:00 of 1:00, and 0:15 after it" in shown(snapshot_at(75), color_system=None)


def test_a_run_that_ends_before_its_first_snapshot_shows_nothing() -> None:
    assert logged() == []


def test_a_curve_shows_a_single_failure_and_leaves_nothing_blank() -> None:
    assert sparkline([0, 1, 200, 400], 400) == " ▁▅█"
    assert sparkline([0, 0], 0) == "  "


def test_a_terminal_without_unicode_gets_a_plain_curve() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with LiveView(console) as live:
        live.update(snapshot_at(1, hot=HOT))
    file.flush()
    assert b"400/s @" in file.buffer.getvalue()  # type: ignore[attr-defined]


def test_the_view_is_given_back_where_the_run_fails() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with pytest.raises(KeyError), LiveView(console) as live:
        live.update(snapshot_at(1))
        raise KeyError
    assert console.file.getvalue().endswith("\x1b[?25h")  # type: ignore[attr-defined]  # the cursor is back
