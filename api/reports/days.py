"""The rows of `daily` and `complaints`, by day and channel.

In: rows by key, as the topics have them. Out: the totals of a day, and a channel's report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from stocktide.api.reports.documents import ChannelReport, Durations
from stocktide.streams.contract.daily import (
    FOLLOWED_KEY,
    INPUTS,
    LETTERS,
    ORDERS,
    SWITCHES,
    Complaints,
    InputDay,
    LetterDay,
    OrderDay,
    Spread,
    SwitchDay,
    key_of,
)

Rows = dict[str, bytes]
_Row = TypeVar("_Row")
_COMPLAINTS = "complaints"

_orders = msgspec.json.Decoder(OrderDay).decode
_switches = msgspec.json.Decoder(SwitchDay).decode
_inputs = msgspec.json.Decoder(InputDay).decode
_letters = msgspec.json.Decoder(LetterDay).decode
_complaints = msgspec.json.Decoder(Complaints).decode


class DayTotals(Struct, frozen=True):
    """What is known of a day. `complaints` is None where no channel reported any."""

    orders: tuple[OrderDay, ...]
    switches: tuple[SwitchDay, ...]
    inputs: InputDay
    dead_letters: int
    complaints: int | None


class DayRows(Struct):
    """The rows of a day by kind, as they are in the topics, and the channels that have any."""

    by_kind: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    channels: set[str] = field(default_factory=set)

    def totals(self, day: str) -> DayTotals:
        """What is known of the day."""
        inputs = [_inputs(row) for row in self.by_kind[INPUTS]]
        reported = [_complaints(row).complaints for row in self.by_kind[_COMPLAINTS]]
        return DayTotals(
            tuple(map(_orders, self.by_kind[ORDERS])),
            tuple(map(_switches, self.by_kind[SWITCHES])),
            inputs[0] if inputs else InputDay(day),
            sum(sum(_letters(row).reasons.values()) for row in self.by_kind[LETTERS]),
            sum(reported) if reported else None,
        )


class Days:
    """All rows. `daily` and `complaints` give those that are there now."""

    def __init__(self, daily: Callable[[], Rows], complaints: Callable[[], Rows]) -> None:
        self._daily = daily
        self._complaints = complaints

    def known(self, first: str, last: str) -> dict[str, DayRows]:
        """The days from `first` to `last` of which something is known, the newest first. For a thousand channels it
        takes some 100 ms; it may run in a thread beside the loop that adds rows."""
        found: defaultdict[str, DayRows] = defaultdict(DayRows)
        for key, row in self._daily().copy().items():
            kind, _, rest = key.partition("/")
            if kind != FOLLOWED_KEY:
                _add(found, kind, rest, row, first, last)
        for key, row in self._complaints().copy().items():
            _add(found, _COMPLAINTS, key, row, first, last)
        return {day: found[day] for day in sorted(found, reverse=True)}

    def report(self, day: str, channel: str, zone: str, over: bool) -> ChannelReport | None:
        """A channel's report; None if nothing is known of it on that day."""
        orders = _read(_orders, self._daily(), key_of(ORDERS, day, channel))
        switches = _read(_switches, self._daily(), key_of(SWITCHES, day, channel))
        complaints = _read(_complaints, self._complaints(), f"{day}/{channel}")
        if orders is None and switches is None and complaints is None:
            return None
        orders, switches = orders or OrderDay(day, channel), switches or SwitchDay(day, channel)
        rejected = sum(orders.rejections.values())
        return ChannelReport(
            day=day,
            channel=channel,
            time_zone=zone,
            over=over,
            orders=orders.orders,
            units=orders.units,
            accepted=orders.orders - rejected,
            partial=orders.partial,
            rejected=rejected,
            rejections=dict(sorted(orders.rejections.items())),
            preorders=orders.preorders,
            preordered_units=orders.preordered_units,
            shorts=orders.shorts,
            short_units=orders.short_units,
            decided_ms=durations_of(orders.decided_ms),
            mode_changes=switches.published_ms.count,
            published_ms=durations_of(switches.published_ms),
            complaints=None if complaints is None else complaints.complaints,
        )


def durations_of(spread: Spread) -> Durations:
    """As they are shown."""
    if not spread.count:
        return Durations(0, None, None, None, None)
    mean = round(spread.sum_ms / spread.count, 1)
    return Durations(spread.count, mean, spread.within(0.5), spread.within(0.95), spread.max_ms)


def _add(found: Mapping[str, DayRows], kind: str, rest: str, row: bytes, first: str, last: str) -> None:
    day, _, channel = rest.partition("/")
    if not first <= day <= last:
        return
    found[day].by_kind[kind].append(row)
    if channel:
        found[day].channels.add(channel)


def _read(decode: Callable[[bytes], _Row], rows: Rows, key: str) -> _Row | None:
    stored = rows.get(key)
    return None if stored is None else decode(stored)
