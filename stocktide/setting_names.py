"""Which variables `STOCKTIDE_*` there are, so that a misspelt one is not ignored.

In: an environment. Out: a SettingsError where a name is close to one that is known; a warning for any other stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from stocktide.errors import SettingsError

PREFIX = "STOCKTIDE_"
# Read elsewhere than in `Settings`: by the processes themselves, by the tests, by what is set up beside them. A `*`
# stands for any text.
KNOWN_ELSEWHERE = (
    "FAILPOINTS",
    "INTAKE_*_SECRET",
    "MAPPINGS",
    "WEBHOOK_ALLOW",
    "SOAK_*",
    "TEST_*",
)
# How alike two names have to be: `PRT` and `PORT` are by 0.86, `REDIS_PORT` and `REDIS_PASSWORD` by 0.75.
_MISSPELT = 0.8
_SUGGESTED = 0.6


def check_variable_names(environ: Mapping[str, str], settings: Iterable[str]) -> None:
    """Refuse a variable whose name is close to that of a setting. `settings` are names without the prefix. Raises
    SettingsError."""
    for name, nearest, likeness in _strangers(environ, settings):
        if likeness >= _MISSPELT:
            raise SettingsError(f"{name} is not a setting of Stocktide: is {nearest} meant?")


def unknown_variable_warnings(environ: Mapping[str, str], settings: Iterable[str]) -> Iterator[str]:
    """A sentence for each variable that nothing reads, but those that are refused."""
    for name, nearest, likeness in _strangers(environ, settings):
        if likeness >= _MISSPELT:
            continue
        hint = f" (the nearest one is {nearest})" if likeness >= _SUGGESTED else ""
        yield f"{name} is not a setting of Stocktide, so it has no effect{hint}"


def _strangers(environ: Mapping[str, str], settings: Iterable[str]) -> Iterator[tuple[str, str, float]]:
    """Each unknown variable with the known one that is nearest, and how near that is."""
    known = tuple(settings)
    for name in sorted(environ):
        given = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or name.removeprefix(PREFIX) in known:
            continue
        if name.startswith(PREFIX) and any(fnmatchcase(given, pattern) for pattern in KNOWN_ELSEWHERE):
            continue
        names = (*known, *(pattern for pattern in KNOWN_ELSEWHERE if "*" not in pattern))
        likeness, nearest = max((_likeness(given, each), each) for each in names)
        yield name, PREFIX + nearest, likeness


def _likeness(given: str, known: str) -> float:
    """From 0 to 1; letters that changed places are the same letters."""
    return 1.0 if sorted(given) == sorted(known) else SequenceMatcher(None, given, known).ratio()
