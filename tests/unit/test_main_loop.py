"""The log of a process: one entry is one line."""

from __future__ import annotations

import logging

import pytest

from stocktide.main_loop import OneLineFormatter


def entry(message: str, *values: object, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("api", logging.INFO, "x.py", 1, message, values, info)
    return OneLineFormatter("%(levelname)s %(name)s: %(message)s").format(record)


@pytest.mark.parametrize("evil", ["\n", "\r", "\r\n", "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\t"])
def test_a_value_makes_neither_a_line_nor_a_control_character(evil: str) -> None:
    line = entry("unknown order %s", f"a{evil}INFO api: all is well")
    assert line.isprintable()
    assert line.startswith("INFO api: unknown order a\\")


def test_the_lines_of_a_traceback_look_like_no_entry() -> None:
    try:
        raise ValueError("a\nERROR api: forged\r\x1b[1m")
    except ValueError as error:
        first, *others = entry("it failed", error=error).split("\n")
    assert first == "INFO api: it failed"
    assert others and all(line.startswith("  ") and line.isprintable() for line in others)


def test_words_of_other_languages_stay_as_they_are() -> None:
    assert entry("%s", "双十一 é") == "INFO api: 双十一 é"
