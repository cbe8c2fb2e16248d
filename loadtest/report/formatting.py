"""The text of times, values, names and verdicts, the same on the console, on the page and in a comparison.

In: values, and the names of checkers and limits that the results keep for programs. Out: text, which is not escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from stocktide.loadtest.measure.results import RunVerdict

# The names of counts that belong to preorders, pools, sold orders and changes of orders.
CHANGES = "changes."
# A name in a legend; the tables have the whole one.
NAME_CHARACTERS_MAX = 40

# The requirement of each checker, in words that cannot make a count beside it look like one of violations.
_REQUIREMENTS = {
    "oversold": "nothing is oversold",
    "answer_contradicted": "no answer is contradicted",
    "answer_lost": "no answer is lost",
    "counted_twice": "no event counts twice",
    "hold_ended_twice": "no hold ends twice",
    "hold_leaked": "every hold ends",
    "version_went_back": "no version goes back",
    "channel_not_converged": "every channel ends at its right stock",
    "input_unaccounted": "every input is applied or refused with a reason",
    "log_does_not_explain": "the log explains every number",
    "short_not_told": "units sold beyond the shelf are reported and come first",
    "queue_order": "waiting orders get units in their order",
    "stands_still": "waiting work moves on",
}
LIMITS = {
    "system": "The system was the limit: at this rate it was slower than the goal, or orders failed.",
    "tester": (
        "The load generator's machine was the limit: it could not send orders on time. Latencies include that"
        " lateness, and the system may carry more than this."
    ),
    "none": "Nothing was at its limit: the rate is the one that was asked for.",
}
LIMIT_NAMES = {"system": "the system", "tester": "the load generator's machine", "none": "none"}


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
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def size_text(value: Any) -> str:
    """Bytes in GB."""
    return f"{value / 1e9:,.1f} GB" if isinstance(value, int | float) else value_text(value)


def command_of(settings: Mapping[str, Any]) -> str:
    """The command line that repeats a run."""
    words = ["stocktide", "loadtest"]
    for name, value in settings.items():
        words += ["--" + name.replace("_", "-"), shlex.quote(value_text(value))]
    return " ".join(words)


def changes_of(totals: Mapping[str, int]) -> dict[str, int]:
    """The counts of preorders, pools, sold orders and changes of orders, by their names."""
    return {name.removeprefix(CHANGES): count for name, count in totals.items() if name.startswith(CHANGES)}


def sums_of(totals: Mapping[str, int]) -> dict[str, int]:
    """All other counts."""
    return {name: count for name, count in totals.items() if not name.startswith(CHANGES)}


def requirement_of(checker: str) -> str:
    """What has to hold, according to a checker."""
    return _REQUIREMENTS.get(checker, checker.replace("_", " "))


def limit_of(verdict: RunVerdict) -> str:
    """The limit of a run, as a sentence."""
    return LIMITS.get(verdict.limit, f"The limit: {verdict.limit}.")


def checks(verdict: RunVerdict) -> Iterator[tuple[str, int, int]]:
    """For each checker: what has to hold, how many checks it made, how many violations it found."""
    for checker, checked in verdict.checked.items():
        found = sum(violation.checker == checker for violation in verdict.violations)
        yield requirement_of(checker), checked, found
