"""Dispatch of history records, with each response paired with its request.

In: records, in order. Out: calls of listeners. A `Request` becomes a `PendingRequest`; a `Response` is dispatched with
it. A request without a response, or with a status of 500 or more, is dispatched as `on_no_response`: it may have been
applied or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct, field

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

# A response with this status or above is uncertain: the command may have been applied or not.
CERTAIN_STATUS_BELOW = 500
HOLD_SECONDS_DEFAULT = 900
# What operators do to orders that wait; only by HTTP.
OPERATOR_KINDS = ("order.held_back", "order.assigned")
# A handler for each type of record.
Handlers = dict[type, Callable[[Any], None]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class SentLine(Struct, frozen=True):
    """A line of an event that was sent."""

    sku: str
    quantity: int
    warehouse: str = ""
    condition: str = "sellable"


class SentEvent(Struct, frozen=True):
    """An event of any kind that was sent; the defaults are those of the contract."""

    id: str | None = None
    order_id: str = ""
    warehouse: str = ""
    channel: str = ""
    sku: str | None = None
    lines: tuple[SentLine, ...] = ()
    remove: tuple[SentLine, ...] = ()
    add: tuple[SentLine, ...] = ()
    occurred_at: str | None = None
    priority: str = "standard"
    accept: str = "all"
    allow_preorder: bool = True
    hold_seconds: int = HOLD_SECONDS_DEFAULT
    region: str | None = None
    purpose: str | None = None
    supersedes: str | None = None
    paid: bool = False
    force: bool = False
    actor: str | None = None
    tracking: str | None = None
    reason: str | None = None
    to_warehouse: str | None = None
    if_expired: str | None = None
    expected_id: str | None = None
    movement_id: str | None = None
    policy: dict[str, Any] | None = None
    held: bool = True
    from_: str | None = field(default=None, name="from")
    until: str | None = None


def sum_lines(lines: tuple[SentLine, ...]) -> tuple[tuple[str, int], ...]:
    """Units per SKU, in first-seen order."""
    if len(lines) == 1:
        return ((lines[0].sku, lines[0].quantity),)
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.sku] = sums.get(line.sku, 0) + line.quantity
    return tuple(sums.items())


def hash_body(kind: str, event: SentEvent) -> int:
    """The hash that distinguishes the bodies of one id (rule 19): defaults filled in, lines summed and sorted, without
    `id`. `occurred_at` counts only for a count."""
    if kind == "order.placed":
        options = (event.channel, event.hold_seconds, event.priority, event.accept, event.allow_preorder)
        more = (event.region, event.purpose, event.supersedes, event.paid, event.force and event.reason)
        return hash((kind, options, *more, *sorted(sum_lines(event.lines))))
    if kind == "order.extended":
        return hash((kind, event.hold_seconds))
    if kind in ("order.shipped", "order.returned"):
        lines = sorted((line.sku, line.quantity, line.warehouse, line.condition) for line in event.lines)
        return hash((kind, event.tracking, *lines))
    if kind == "order.cancelled" and event.lines:
        return hash((kind, *sorted(sum_lines(event.lines))))
    if kind == "order.changed":
        return hash((kind, *sorted(sum_lines(event.remove)), None, *sorted(sum_lines(event.add))))
    if kind == "order.paid" and event.if_expired:
        return hash((kind, event.if_expired))
    if kind in OPERATOR_KINDS:
        return hash((kind, event.reason, event.sku, event.held, *sorted(sum_lines(event.lines))))
    if kind.startswith("order."):
        return hash(kind)
    when = time_ms(event.occurred_at) if kind == "stock.counted" else None
    times = (time_ms(event.from_), time_ms(event.until))
    what = (event.reason, event.to_warehouse, event.expected_id, event.movement_id, event.purpose, *times, when)
    return hash((kind, what, *sorted(sum_lines(event.lines))))


def time_ms(text: str | None) -> int | None:
    """RFC 3339 → ms since the epoch; None for no time or an invalid one."""
    if not text:
        return None
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (TypeError, ValueError):  # TypeError: the time has no zone
        return None


class PendingRequest:
    """A request and what was known when it was sent. `event` is empty if it is no event of the contract.

    `acknowledged_sequence` is the highest sequence of the order that a response had shown by then, `batch` the newest
    batch seen on any topic: the effect of the request comes after both. `is_new`: the first request with this id and
    body.
    """

    __slots__ = ("acknowledged_sequence", "at", "batch", "body", "door", "event", "is_new", "kind", "number")

    def __init__(self, record: Request, batch: int) -> None:
        self.at = record.at
        self.number = record.number
        self.door = record.door
        self.kind = record.kind
        self.batch = batch
        self.acknowledged_sequence = 0
        self.is_new = False
        self.event = parse_event(record.event) or SentEvent()
        self.body = hash_body(record.kind, self.event)


def parse_event(event: Any) -> SentEvent | None:
    """A JSON object as an event; None if it cannot be one."""
    try:
        return msgspec.convert(event, SentEvent)
    except msgspec.ValidationError:
        return None


class Listener:
    """A receiver of records. `quiesced_at`: the time at which the run quiesced; None before."""

    quiesced_at: int | None = None

    def handlers(self) -> Handlers:
        """The handlers of other records than requests and responses."""
        return {}

    def on_request(self, request: PendingRequest) -> None:
        """Handle a request that is about to be sent."""

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Handle a response that is certain."""

    def on_no_response(self, request: PendingRequest) -> None:
        """Handle the end of a request that may have been applied or not."""


class RecordDispatcher:
    """Dispatches each record to the listeners, in the order of `listeners`."""

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._handlers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)
        self._open: dict[int, PendingRequest] = {}
        self._newest_batch = 0
        self.records = 0
        self.unmatched_responses = 0
        self.quiesced_at: int | None = None
        for listener in listeners:
            for kind, handler in listener.handlers().items():
                self._handlers[kind].append(handler)

    def feed(self, record: HistoryRecord) -> None:
        """Dispatch one record."""
        self.records += 1
        if isinstance(record, Request):
            self._open_request(record)
        elif isinstance(record, Response | NoResponse):
            self._close_request(record)
        else:
            if isinstance(record, StockPublished):
                self._newest_batch = max(self._newest_batch, record.stock.batch)
            elif isinstance(record, OrderPublished):
                self._newest_batch = max(self._newest_batch, record.order.batch)
            elif isinstance(record, MovementPublished):
                self._newest_batch = max(self._newest_batch, record.movement.batch)
            elif isinstance(record, RunQuiesced):
                self.quiesced_at = record.at
                for listener in self._listeners:
                    listener.quiesced_at = record.at
            for handler in self._handlers.get(type(record), ()):
                handler(record)

    def end(self) -> None:
        """Report the requests that are still open as requests without a response."""
        for request in self._open.values():
            for listener in self._listeners:
                listener.on_no_response(request)
        self._open.clear()

    def _open_request(self, record: Request) -> None:
        request = self._open[record.number] = PendingRequest(record, self._newest_batch)
        for listener in self._listeners:
            listener.on_request(request)

    def _close_request(self, record: Response | NoResponse) -> None:
        request = self._open.pop(record.number, None)
        if request is None:
            self.unmatched_responses += 1
            return
        for listener in self._listeners:
            if isinstance(record, Response) and record.status < CERTAIN_STATUS_BELOW:
                listener.on_response(request, record)
            else:
                listener.on_no_response(request)
