"""What the calls of reports and of the health score answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from stocktide.streams.contract.events import Name

Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", description="a day, `YYYY-MM-DD`, in the time zone set")]
Share = Annotated[float, Meta(ge=0, le=1)]


class ScorePart(Struct, frozen=True):
    """A part of the score: `points` are 100 at `goal` or better, 0 at `limit` or worse, and linear between. A part
    without data has null as `value` and `points`, and its weight is shared among the others: `counted_weight`."""

    name: str
    weight: Share
    counted_weight: Share
    value: float | None
    unit: str
    goal: float
    limit: float
    points: float | None


class HealthScore(Struct, frozen=True):
    """The health score of a day, 0 to 100; null where no part has data. `over`: the day is over."""

    day: Day
    time_zone: str
    over: bool
    score: float | None
    parts: list[ScorePart]


class ScoreDays(Struct, frozen=True):
    """The health score by day, the newest first; only days of which something is known."""

    items: list[HealthScore]


class Durations(Struct, frozen=True):
    """Durations in ms; `p50` and `p95` are upper bounds."""

    count: int
    mean: float | None
    p50: int | None
    p95: int | None
    max: int | None


class ChannelReport(Struct, frozen=True):
    """What happened in a channel on a day. `decided_ms`: from the decision of an order to the journal. `published_ms`:
    from the decision of a change of mode to its publication. `complaints` is null where none were reported."""

    day: Day
    channel: Name
    time_zone: str
    over: bool
    orders: int
    units: int
    accepted: int
    partial: int
    rejected: int
    rejections: dict[str, int]
    preorders: int
    preordered_units: int
    shorts: int
    short_units: int
    decided_ms: Durations
    mode_changes: int
    published_ms: Durations
    complaints: int | None


class ReportDay(Struct, frozen=True):
    """A day and the channels that have a report of it."""

    day: Day
    channels: list[str]


class ReportDays(Struct, frozen=True):
    """The days that have reports, the newest first."""

    items: list[ReportDay]


class ComplaintsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How many complaints a channel had on a day, in all."""

    day: Day
    complaints: Annotated[int, Meta(ge=0, le=1_000_000_000)]


class ComplaintsAnswer(Struct, frozen=True):
    """What is known of a channel's complaints on a day."""

    day: Day
    channel: Name
    complaints: int
    actor: str
    at: str
