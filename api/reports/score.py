"""The health score of a day, by the table of weights of the source articles.

In: the totals of a day. Out: the score with its parts. The weights are given; goals and limits are ours, and each has
its reason here. A part without data has no points, and its weight is shared among the others in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from msgspec import Struct

from stocktide.api.reports.days import DayTotals
from stocktide.api.reports.documents import HealthScore, ScorePart
from stocktide.streams.contract.daily import Spread

# A mean hides the slow ones, and the largest is one of thousands.
SHARE = 0.95


class _Scale(Struct, frozen=True):
    name: str
    weight: float
    unit: str
    goal: float
    limit: float


# A shopper does not notice half a second; a call gives up after five (STOCKTIDE_REQUEST_SECONDS).
PROCESSING = _Scale("processing_time", 0.30, "ms", 500, 5_000)
# Of counted lines, 99 in 100 without a difference is what well-run warehouses reach; below 90 the numbers are guesses.
ACCURACY = _Scale("accuracy", 0.25, "share", 0.99, 0.90)
# A shop that learns within a second that nothing is left sells little too much; within ten it sells to a whole crowd.
DELAY = _Scale("delay", 0.20, "ms", 1_000, 10_000)
# Complaints per order: 1 in 100 is where marketplaces begin to warn a shop.
COMPLAINTS = _Scale("complaints", 0.15, "per order", 0, 0.01)
# Dead letters per input: 1 in 100 means that a source sends what cannot be read.
EXCEPTIONS = _Scale("exceptions", 0.10, "share", 0, 0.01)


def score_of(day: str, totals: DayTotals, zone: str, over: bool) -> HealthScore:
    """The score of a day."""
    orders = sum(row.orders for row in totals.orders)
    complaints = totals.complaints
    values: tuple[tuple[_Scale, float | None], ...] = (
        (PROCESSING, _joined(row.decided_ms for row in totals.orders).within(SHARE)),
        (ACCURACY, _share(totals.inputs.exact, totals.inputs.counted)),
        (DELAY, _joined(row.published_ms for row in totals.switches).within(SHARE)),
        # Complaints without an order of the day are as bad as can be.
        (COMPLAINTS, None if complaints is None or not (orders or complaints) else complaints / max(orders, 1)),
        (EXCEPTIONS, _share(totals.dead_letters, totals.inputs.inputs + totals.dead_letters)),
    )
    known = sum(scale.weight for scale, value in values if value is not None)
    parts = [_part(scale, value, known) for scale, value in values]
    score = sum(part.counted_weight * part.points for part in parts if part.points is not None)
    return HealthScore(day, zone, over, round(score, 1) if known else None, parts)


def points_of(value: float, goal: float, limit: float) -> float:
    """100 at the goal or better, 0 at the limit or worse, linear between."""
    return round(100 * min(1.0, max(0.0, (limit - value) / (limit - goal))), 1)


def _part(scale: _Scale, value: float | None, known: float) -> ScorePart:
    has_data = value is not None
    return ScorePart(
        name=scale.name,
        weight=scale.weight,
        counted_weight=round(scale.weight / known, 4) if has_data else 0.0,
        value=None if value is None else round(value, 6),
        unit=scale.unit,
        goal=scale.goal,
        limit=scale.limit,
        points=None if value is None else points_of(value, scale.goal, scale.limit),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _joined(spreads: Iterable[Spread]) -> Spread:
    return reduce(_sum, spreads, Spread())


def _sum(one: Spread, other: Spread) -> Spread:
    places = tuple(a + b for a, b in zip(one.places, other.places, strict=True))
    return Spread(one.count + other.count, one.sum_ms + other.sum_ms, max(one.max_ms, other.max_ms), places)
