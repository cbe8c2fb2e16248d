"""The words of a verdict, the same on the console, on the page and in a comparison.

In: names of checkers and of limits, which the results keep for programs. Out: sentences.
"""

from __future__ import annotations

from collections.abc import Iterator

from stocktide.loadtest.measure.results import RunVerdict

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
