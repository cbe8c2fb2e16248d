"""Where an alert goes, and when it may.

In: an alert, the routes, a moment. Out: the routes that take it, its group in each, and until when it is held back.
Pure: the moment is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, UnsetType

from stocktide.agents.notify.config import QuietTime, Route
from stocktide.streams.contract.alert_types import alert_type
from stocktide.streams.contract.times import EPOCH, ms_of

# A type and the one that takes it back are about the same thing: the last word is not left out as a repeat.
_SAME_THING = {"stall_over": "stalled"}
# The places of a quiet time's ends are looked for over a week and a day.
_DAYS_AHEAD = 9


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `alerts`, as far as it is shown or matched; `row` is all of it."""

    id: str
    type: str
    at: str
    sku: str = ""
    warehouse: str | None = None
    channel: str | None = None
    order_id: str | None = None
    quantity: int | None = None
    event_id: str | UnsetType | None = UNSET
    event_type: str | UnsetType | None = UNSET
    process: str | UnsetType = UNSET
    part: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    mode_before: str | UnsetType = UNSET
    mode: str | UnsetType = UNSET
    row: msgspec.Raw = msgspec.Raw(b"")

    @property
    def severity(self) -> str:
        """That of its type."""
        return alert_type(self.type).severity

    def label(self, name: str) -> str:
        """The value by which it is grouped; "" if it has none."""
        return str(getattr(self, name) or "")

    @property
    def subject(self) -> tuple[object, ...]:
        """What it is about: a later alert about the same says what is so now."""
        kind = _SAME_THING.get(self.type, self.type)
        places = (self.sku, self.warehouse, self.channel, self.order_id, self.event_id, self.process, self.part)
        return (kind, *places)

    @property
    def content(self) -> tuple[object, ...]:
        """What it says about its subject."""
        return (self.type, self.quantity, self.mode, self.reason, self.detail)


_decode = msgspec.json.Decoder(Alert).decode


def decode_alert(value: bytes) -> Alert:
    """An alert of a row's value. Raises MsgspecError."""
    return msgspec.structs.replace(_decode(value), row=msgspec.Raw(value))


def taken_by(routes: Iterable[Route], alert: Alert) -> list[int]:
    """The places of the routes that take an alert: the first that matches, and those after one that goes on."""
    taken = []
    for place, route in enumerate(routes):
        if _matches(route, alert):
            taken.append(place)
            if not route.goes_on:
                break
    return taken


def _matches(route: Route, alert: Alert) -> bool:
    match = route.match
    return (
        (match.types is None or alert.type in match.types)
        and (match.severities is None or alert.severity in match.severities)
        and (match.channels is None or alert.channel in match.channels)
        and (match.warehouses is None or alert.warehouse in match.warehouses)
        and (match.sku_prefixes is None or alert.sku.startswith(match.sku_prefixes))
    )


def group_of(route: Route, alert: Alert) -> tuple[tuple[str, str], ...]:
    """The labels and values of the alert's group."""
    return tuple((label, alert.label(label)) for label in route.group_by)


def held_until(quiet: Iterable[QuietTime], severity: str, now_ms: int) -> int | None:
    """When an alert that is due now may be sent, if quiet times hold it back: ms since the epoch, else None."""
    holding = [each for each in quiet if severity not in each.passes]
    until = now_ms
    while ends := [end for each in holding if (end := _end_of(each, until)) is not None]:
        until = max(ends)  # another may begin before this one ends
        if until - now_ms > _DAYS_AHEAD * 86_400_000:
            break  # it is always quiet: looked at again then
    return until if until > now_ms else None


def _end_of(quiet: QuietTime, at_ms: int) -> int | None:
    """When the quiet time that covers a moment ends; None if it does not cover it."""
    moment = (EPOCH + timedelta(milliseconds=at_ms)).astimezone(quiet.zone)
    for days_ago in (0, 1):
        day = (moment - timedelta(days=days_ago)).replace(hour=0, minute=0, second=0, microsecond=0)
        if day.weekday() not in quiet.days:
            continue
        length = quiet.ends if quiet.ends > quiet.begins else quiet.ends + 24 * 60
        begins, ends = _clock(day, quiet.begins), _clock(day, length)
        if begins <= at_ms < ends:
            return ends
    return None


def _clock(day: datetime, minutes: int) -> int:
    """When, in ms since the epoch, the clocks of the day's zone show so many minutes after midnight."""
    days, rest = divmod(minutes, 24 * 60)
    other = day + timedelta(days=days)  # the arithmetic of a zone's datetime is that of its clocks
    return ms_of(other.replace(hour=rest // 60, minute=rest % 60))
