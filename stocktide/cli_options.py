"""Types of command line options, and the hints in error messages that name an option.

A hint names an option only where the running command has it. A command without server options (`worker`, `api`) reads
addresses from its environment alone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from stocktide.streams.contract.times import ms_of, now_ms

_AGE = re.compile(r"(\d{1,6})([smhd])")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class ServerOption(click.Option):
    """An option with the address of a server that the command uses."""


class SystemOption(click.Option):
    """An option that names a running system."""


class TimeParam(click.ParamType):
    """A time in ms since the epoch. `ends`: the end of the second or day that it names."""

    name = "TIME"

    def __init__(self, ends: bool = False) -> None:
        self._ends = ends

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Refuse what is no time."""
        if isinstance(value, int):
            return value
        at_ms = parse_time(value, self._ends)
        if at_ms is None:
            self.fail(f"{value!r} is no time: 2026-11-24T19:26:01Z, 2026-11-24, or 15m, 2h, 3d ago", param, ctx)
        return at_ms


class SpeedParam(click.ParamType):
    """A factor of real time, or `max` (None)."""

    name = "X|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Refuse what is no positive number."""
        if value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is neither a positive number nor max", param, ctx)
        return speed


def parse_time(text: str, ends: bool = False) -> int | None:
    """`2026-11-24T19:26:01Z`, `2026-11-24` or an age (`15m`, `2h`, `3d`) in ms since the epoch, by default in UTC; None
    for any other text. A time without a fraction is the first ms of its second or day, with `ends` the last one."""
    if (age := _AGE.fullmatch(text)) is not None:
        return now_ms() - int(age[1]) * _UNIT_MS[age[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    first_ms = ms_of(at)
    if not ends or at.microsecond:
        return first_ms
    return first_ms + (_UNIT_MS["d"] if len(text) == len("2026-11-24") else _UNIT_MS["s"]) - 1


def how_to_reach(server: str, option: str, variable: str) -> str:
    """What to do about a server that does not answer."""
    has_option = option in _options(ServerOption)
    if _options(SystemOption):
        named = f"{option} or {variable}" if has_option else variable
        return f"name a running system (--data or --api), or give the address of its {server} ({named})"
    if has_option:
        return f"start it, give its address ({option} or {variable}), or leave both out and get an embedded one"
    return f"start it, or give its address ({variable})"


def own_server_hint(option: str, advice: str) -> str:
    """`, or use your own Kafka with --kafka HOST:PORT`; empty where the command has no such option."""
    return f", or {advice}" if option in _options(ServerOption) else ""


def _options(kind: type[click.Option]) -> set[str]:
    context = click.get_current_context(silent=True)
    parameters: Any = context.command.params if context is not None else ()
    return {name for each in parameters if isinstance(each, kind) for name in each.opts}
