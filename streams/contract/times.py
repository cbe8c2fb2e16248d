"""Times as whole milliseconds since the epoch and as RFC 3339, and explanations of invalid times.

In: aware datetimes, this machine's clock, or an invalid time. Out: ints (a float of seconds holds no exact
millisecond) and their text, or a sentence about the error, with a hint for a known mistake.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Times of one batch, and of the holds that begin in it, share their second: the cache covers enough of them.
_SECONDS_CACHED = 4096
_RULE = "a time is RFC 3339 with an offset, as in 2026-11-11T00:00:00.000Z"
_HINTS = (
    (re.compile(r":\d\d:60"), "a leap second (`:60`) is not taken: send the second before it, `:59`"),
    (re.compile(r","), "fractions of a second follow a point, not a comma"),
    (re.compile(r"[Tt ]24:"), "`24:00` is not taken: send `00:00` of the next day"),
    (re.compile(r"^[\d-]+[Tt ]\d\d:\d\d(Z|z|[+-]\d\d:?\d\d)?$"), "the seconds are missing"),
    (re.compile(r":\d\d \d\d:?\d\d$"), "where a form decodes a target, a `+` is written `%2B`"),
    (re.compile(r"^[\d-]+$"), "the time of day is missing"),
    (
        re.compile(r"[Tt ][\d:.]+$"),
        "the offset is missing, so it may be any of 24 moments: add `Z` or such as `+08:00`",
    ),
)


def ms_of(at: datetime) -> int:
    """ms since the epoch, rounded down. Raises TypeError if `at` has no zone."""
    return (at - EPOCH) // _MILLISECOND


def now_ms() -> int:
    """This machine's clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """ms since the epoch → `2026-11-11T00:00:00.000Z`, clamped to the years 1 to 9999."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=_SECONDS_CACHED)
def _second(seconds: int) -> str:
    try:
        at = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        at = datetime.max if seconds > 0 else datetime.min
    return at.isoformat(timespec="seconds")[:19]


def explain_time(given: object) -> str:
    """A sentence about the error in `given`."""
    if not isinstance(given, str):
        return f"{_RULE}, in quotes"
    for pattern, hint in _HINTS:
        if pattern.search(given):
            return f"{hint}; {_RULE}"
    return _RULE
