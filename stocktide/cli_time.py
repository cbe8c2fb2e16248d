"""Times as a person types them: `2026-11-24T19:26:01Z`, `2026-11-24 19:26`, `2026-11-24`, or `15m`, `2h`, `3d` ago.

In: a word of the command line. Out: ms since the epoch. Without a zone it is UTC, as everything that we print.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from stocktide.streams.contract.times import ms_of, now_ms

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_time(word: str, ends: bool = False) -> int | None:
    """ms since the epoch; None where it is no time. A time without a fraction is the start of its second (of its day,
    where it is a date), or, if it `ends` something, the last ms of it."""
    if (ago := _AGO.fullmatch(word)) is not None:
        return now_ms() - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        at = datetime.fromisoformat(word)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    started = ms_of(at)
    if not ends or at.microsecond:
        return started
    return started + (_UNIT_MS["d"] if len(word) == len("2026-11-24") else _UNIT_MS["s"]) - 1


class TimeParam(click.ParamType):
    """A time, in ms. `ends`: the whole second, or day, that it names is meant."""

    name = "TIME"

    def __init__(self, ends: bool = False) -> None:
        self._ends = ends

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuse what is no time."""
        if isinstance(value, int):
            return value
        found = parse_time(value, self._ends)
        if found is None:
            self.fail(f"{value!r} is no time: 2026-11-24T19:26:01Z, 2026-11-24, or 15m, 2h, 3d ago", param, ctx)
        return found
