"""Rows of the topics `daily` and `complaints`: what happened on a day, as totals.

In: JSON. Out: frozen rows. Each row says up to where it has counted, so that what is read again counts nothing. The day
is the one in which the ledger decided, or in which the row of another topic was written: a day that is over changes no
more, and what comes late counts on the day on which it came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from stocktide.streams.contract.times import EPOCH

# ms: a slower one counts in the last place, which has no edge. Stored rows have a number for each: these never change.
EDGES_MS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
# Kinds of rows, the first part of a key.
ORDERS, INPUTS, SWITCHES, LETTERS = "orders", "inputs", "switches", "dead-letters"
# The key of the row that says how far the followed topics were counted.
FOLLOWED_KEY = "followed"
# How many days are answered: a quarter, after which a report is in other systems. A thousand channels have some 110 MB.
DAYS_KEPT = 90
# How many days have rows: the dates of two time zones are up to two days apart.
DAYS_STORED = DAYS_KEPT + 2
_QUARTER_MS = 900_000


class Spread(Struct, frozen=True, array_like=True):
    """Durations: their number, sum and largest (ms), and how many are at most each of `EDGES_MS`, and above the edge
    before it; the last ones are above all."""

    count: int = 0
    sum_ms: int = 0
    max_ms: int = 0
    places: tuple[int, ...] = (0,) * (len(EDGES_MS) + 1)

    def with_each(self, durations: list[int]) -> Spread:
        """With more durations; below 0, where clocks are apart, is 0."""
        places = list(self.places)
        times = [max(0, each) for each in durations]
        for each in times:
            places[bisect_left(EDGES_MS, each)] += 1
        largest = max((self.max_ms, *times))
        return Spread(self.count + len(times), self.sum_ms + sum(times), largest, tuple(places))

    def within(self, share: float) -> int | None:
        """ms within which at least this share of the durations is: an edge, or the largest; None without any."""
        seen = 0
        for edge, number in zip(EDGES_MS, self.places, strict=False):
            seen += number
            if self.count and seen >= share * self.count:
                return min(edge, self.max_ms)
        return self.max_ms if self.count else None


class OrderDay(Struct, frozen=True):
    """The orders of a channel that were decided on a day. `through`: the last batch that was counted. `rejections` are
    the rejected orders by reason; of the others, `preorders` have units that wait for stock from the beginning, and
    `shorts` are sold units that nothing was there for. `decided_ms`: from the decision to the journal, where it is
    durable and may be answered."""

    day: str
    channel: str
    through: int = 0
    orders: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    partial: int = 0
    preorders: int = 0
    units: int = 0
    preordered_units: int = 0
    shorts: int = 0
    short_units: int = 0
    decided_ms: Spread = Spread()


class InputDay(Struct, frozen=True):
    """What the ledger took on a day, of all channels and warehouses; `through` as above. `exact` are the counted lines
    in which the count was what the ledger had."""

    day: str
    through: int = 0
    inputs: int = 0
    counted: int = 0
    exact: int = 0


class SwitchDay(Struct, frozen=True):
    """Changes of mode of a channel that were published on a day. `through`: by partition, the offset up to which was
    counted. `published_ms`: from the decision to the publication."""

    day: str
    channel: str
    through: dict[str, int] = field(default_factory=dict)
    published_ms: Spread = Spread()


class LetterDay(Struct, frozen=True):
    """Dead letters of a day by reason; `through` as in `SwitchDay`."""

    day: str
    through: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


class Followed(Struct, frozen=True):
    """How far the followed topics were counted, by partition."""

    through: dict[str, int] = field(default_factory=dict)


class Complaints(Struct, frozen=True):
    """How many complaints a channel had on a day; a later one replaces it."""

    day: str
    channel: str
    complaints: int
    actor: str
    at: str


def day_of(at_ms: int, zone: ZoneInfo) -> str:
    """The day in a time zone, `YYYY-MM-DD`."""
    return _day_of_quarter(at_ms - at_ms % _QUARTER_MS, zone)


@lru_cache(4_096)
def _day_of_quarter(at_ms: int, zone: ZoneInfo) -> str:
    """Zones differ from UTC by whole quarters of an hour."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date().isoformat()


def key_of(kind: str, day: str, channel: str | None = None) -> str:
    """`kind/day` or `kind/day/channel`; only the last part may hold a `/`."""
    return f"{kind}/{day}" if channel is None else f"{kind}/{day}/{channel}"


def added(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums by name."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}
