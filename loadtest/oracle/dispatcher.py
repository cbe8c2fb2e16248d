"""The history as checkers hear it: each answer together with what was asked.

In: records, in order. Out: calls. `Request` is heard as an `PendingRequest`; `Response` as (ask, told); what was never
answered, or was answered with a status of 500 or more, as `silent`: it may have happened or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from stocktide.loadtest.oracle.history import (
    HistoryRecord,
    MovementPublished,
    NoResponse,
    OrderPublished,
    Request,
    Response,
    RunQuiesced,
    StockPublished,
)

# From this status on an answer promises nothing.
CERTAIN_STATUS_BELOW = 500
HOLD_SECONDS_DEFAULT = 900
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class SentLine(Struct, frozen=True):
    """A line of an event that was sent."""

    sku: str
    quantity: int
    warehouse: str = ""
    condition: str = "sellable"


class SentEvent(Struct, frozen=True):
    """An event that was sent, of any kind; defaults are those of the contract."""

    id: str | None = None
    order_id: str = ""
    warehouse: str = ""
    channel: str = ""
    sku: str | None = None
    lines: tuple[SentLine, ...] = ()
    occurred_at: str | None = None
    priority: str = "standard"
    accept: str = "all"
    allow_preorder: bool = True
    hold_seconds: int = HOLD_SECONDS_DEFAULT
    region: str | None = None
    purpose: str | None = None
    supersedes: str | None = None
    tracking: str | None = None
    reason: str | None = None
    to_warehouse: str | None = None
    expected_id: str | None = None
    policy: dict[str, Any] | None = None


def sum_lines(lines: tuple[SentLine, ...]) -> tuple[tuple[str, int], ...]:
    """Units per SKU, in first-seen order."""
    if len(lines) == 1:
        return ((lines[0].sku, lines[0].quantity),)
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.sku] = sums.get(line.sku, 0) + line.quantity
    return tuple(sums.items())


def hash_body(kind: str, event: SentEvent) -> int:
    """What tells one body from another under the same id (rule 19): defaults filled, lines summed and sorted,
    without `id` and `occurred_at`, which is part of what a count says."""
    if kind == "order.placed":
        shopper = (event.channel, event.hold_seconds, event.priority, event.accept, event.allow_preorder)
        return hash((kind, shopper, event.region, event.purpose, event.supersedes, *sorted(sum_lines(event.lines))))
    if kind == "order.extended":
        return hash((kind, event.hold_seconds))
    if kind in ("order.shipped", "order.returned"):
        lines = sorted((line.sku, line.quantity, line.warehouse, line.condition) for line in event.lines)
        return hash((kind, event.tracking, *lines))
    if kind.startswith("order."):
        return hash(kind)
    when = time_ms(event.occurred_at) if kind == "stock.counted" else None
    what = (event.reason, event.to_warehouse, event.expected_id, when)
    return hash((kind, what, *sorted(sum_lines(event.lines))))


def time_ms(text: str | None) -> int | None:
    """RFC 3339 → ms since the epoch; None where there is none, or it is no time."""
    if not text:
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (TypeError, ValueError):  # a TypeError: it has no zone
        return None


class PendingRequest:
    """What somebody asked, for as long as it is open. `event` None: it is no event of the contract.

    `floor` is the highest sequence that anyone had been told of the order by then, `batch` the newest batch seen on
    any topic: what this ask does, it does after both. `new`: nobody had asked for this id with this body before.
    """

    __slots__ = ("at", "batch", "body", "door", "event", "floor", "kind", "new", "number")

    def __init__(self, record: Request, batch: int) -> None:
        self.at = record.at
        self.number = record.number
        self.door = record.door
        self.kind = record.kind
        self.batch = batch
        self.floor = 0
        self.new = False
        self.event = parse_event(record.event) if record.event else None
        self.body = 0 if self.event is None else hash_body(record.kind, self.event)


def parse_event(event: Any) -> SentEvent | None:
    """The event of a JSON object; None where it cannot be one."""
    try:
        return msgspec.convert(event, SentEvent)
    except msgspec.ValidationError:
        return None


class Listener(Protocol):
    """Who hears records. Also heard, where it is there: `asked(ask)`, `told(ask, told)`, `silent(ask)`."""

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """The other records that this one wants, each with who takes it."""
        ...


class RecordDispatcher:
    """Hands every record to all who want it, in the order of `listeners`."""

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._asked: list[Callable[[PendingRequest], None]] = []
        self._told: list[Callable[[PendingRequest, Response], None]] = []
        self._silent: list[Callable[[PendingRequest], None]] = []
        self._hears: dict[type, list[Callable[[Any], None]]] = defaultdict(list)
        self._open: dict[int, PendingRequest] = {}
        self._newest_batch = 0
        self.records = 0
        self.strays = 0
        self.rested_at: int | None = None
        for listener in listeners:
            for name, hearers in (("asked", self._asked), ("told", self._told), ("silent", self._silent)):
                if (hear := getattr(listener, name, None)) is not None:
                    hearers.append(hear)
            for kind, hear in listener.hears().items():
                self._hears[kind].append(hear)

    def feed(self, record: HistoryRecord) -> None:
        """Hand out one record."""
        self.records += 1
        if isinstance(record, Request):
            self._ask(record)
        elif isinstance(record, Response | NoResponse):
            self._answer(record)
        else:
            if isinstance(record, StockPublished):
                self._newest_batch = max(self._newest_batch, record.stock.batch)
            elif isinstance(record, OrderPublished):
                self._newest_batch = max(self._newest_batch, record.order.batch)
            elif isinstance(record, MovementPublished):
                self._newest_batch = max(self._newest_batch, record.movement.batch)
            elif isinstance(record, RunQuiesced):
                self.rested_at = record.at
            for hear in self._hears.get(type(record), ()):
                hear(record)

    def end(self) -> None:
        """Nothing more comes: what is still open was never answered."""
        for ask in self._open.values():
            for hear in self._silent:
                hear(ask)
        self._open.clear()

    def _ask(self, record: Request) -> None:
        ask = self._open[record.number] = PendingRequest(record, self._newest_batch)
        for hear in self._asked:
            hear(ask)

    def _answer(self, record: Response | NoResponse) -> None:
        ask = self._open.pop(record.number, None)
        if ask is None:
            self.strays += 1
        elif isinstance(record, Response) and record.status < CERTAIN_STATUS_BELOW:
            for tell in self._told:
                tell(ask, record)
        else:
            for hear in self._silent:
                hear(ask)
