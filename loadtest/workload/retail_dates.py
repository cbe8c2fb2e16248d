"""The dates of copies of Online Retail. The order of day and month is an option, never a guess.

In: `iso`, `mdy` or `dmy`, and a text. Out: a time in UTC, or a ValueError that says which order would fit.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, get_args

DateOrder = Literal["iso", "mdy", "dmy"]
ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)
# POSIX: 69 to 99 are of the twentieth century, 00 to 68 of this one.
_FIRST_YEAR_OF_1900S = 69

_WRITTEN = re.compile(
    r"(?P<one>\d{1,4})(?P<between>[-/.])(?P<two>\d{1,2})(?P=between)(?P<three>\d{1,4})"
    r"(?:[ T]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?",
    re.ASCII,
)
_EXAMPLES = {"iso": "2010-12-01 08:26", "mdy": "12/1/2010 8:26", "dmy": "1/12/2010 8:26"}


# Neighbouring rows have the same date.
@lru_cache(maxsize=1)
def parse_date(written: str, dates: DateOrder) -> datetime:
    """The time of a text. Raises ValueError where it does not fit."""
    written = written.strip()
    if (at := moment(written, dates)) is not None:
        return at
    fits = [(order, at) for order in ORDERS if (at := moment(written, order)) is not None]
    shown = repr(written[:40])
    if not fits:
        raise ValueError(f"InvoiceDate {shown} is no date like {_EXAMPLES[dates]}")
    readings = ", ".join(f"with --dates {order} that is {at.day} {at:%B} {at.year}" for order, at in fits)
    more = ": only you can know which" if len(fits) > 1 else ""
    raise ValueError(f"InvoiceDate is {shown}, and --dates is {dates}: {readings}{more}")


def moment(written: str, order: DateOrder) -> datetime | None:
    """The time of a text in that order, taken as UTC; None where it does not fit."""
    if (match := _WRITTEN.fullmatch(written)) is None:
        return _with_offset(written) if order == "iso" else None
    one, two, three = match["one"], match["two"], match["three"]
    year, month, day = {"iso": (one, two, three), "mdy": (three, one, two), "dmy": (three, two, one)}[order]
    if len(year) not in ((4,) if order == "iso" else (2, 4)) or len(month) > 2 or len(day) > 2:
        return None
    hour = _hour(int(match["hour"] or 0), match["half"])
    try:
        return datetime(
            _year(year), int(month), int(day), hour, int(match["minute"] or 0), int(match["second"] or 0), tzinfo=UTC
        )
    except ValueError:
        return None


def _with_offset(written: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(written) if re.match(r"\d{4}-\d\d-\d\d[ T]", written, re.ASCII) else None
    except ValueError:
        return None
    return None if at is None else at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _year(written: str) -> int:
    year = int(written)
    return year if len(written) == 4 else year + (1900 if year >= _FIRST_YEAR_OF_1900S else 2000)


def _hour(hour: int, half: str | None) -> int:
    """The hour of 24; -1 is invalid."""
    if half is None:
        return hour
    return hour % 12 + (12 if half in "Pp" else 0) if 1 <= hour <= 12 else -1
