"""The text of times, values and names on the page and in the comparison.

In: values. Out: text, which is not escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

# A name in a legend; the tables have the whole one.
NAME_CHARACTERS_MAX = 40
# Settings of the place of a run and of its report, not of the load.
NOT_REPEATED = frozenset({"api", "kafka", "app_id", "report_html", "report_json", "live"})


def milliseconds(value: float) -> str:
    """A time in ms with a suitable unit: 0.42 ms, 8.1 ms, 120 ms, 12.3 s."""
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def clock(seconds: float) -> str:
    """Seconds since the start as m:ss."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02}"


def plain_name(name: str) -> str:
    """A name of the run without control characters and of limited length. It is not escaped."""
    shown = printable(name)
    return shown if len(shown) <= NAME_CHARACTERS_MAX else shown[: NAME_CHARACTERS_MAX - 1] + "…"


def printable(text: str) -> str:
    """Text without control characters."""
    return "".join(each if each.isprintable() else "?" for each in text)


def value_text(value: Any) -> str:
    """A setting or a property of the machine."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(value_text(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {value_text(each)}" for name, each in value.items())
    return str(value)


def size_text(value: Any) -> str:
    """Bytes in GB."""
    return f"{value / 1e9:,.1f} GB" if isinstance(value, int | float) else value_text(value)


def command_of(settings: Mapping[str, Any]) -> str:
    """The command line that repeats a run: the recorded one, else one from the options."""
    noted = settings.get("command")
    if isinstance(noted, str):
        return noted
    words = ["stocktide", "loadtest"]
    for name, value in settings.items():
        if name in NOT_REPEATED or value is None or value is False:
            continue
        option = "--" + name.replace("_", "-")
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            words += [option] if each is True else [option, shlex.quote(value_text(each))]
    return " ".join(words)
