"""The state of every order, folded from all sources: responses, reads, rows of `reservations`.

In: the records of a history. Out: an `OrderObservation` to the listeners each time an order is seen; at the end all
orders. `sequence` is the order's own change counter, so each sequence names exactly one state of it, in every source;
that state is kept, packed. Rows may be repeated or late, and reads may show an older batch; neither is wrong by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Literal, NamedTuple

import msgspec

from stocktide.loadtest.client.contract import LineView, OrderView
from stocktide.loadtest.oracle.dispatcher import Handlers, Listener, PendingRequest, SentLine, time_ms
from stocktide.loadtest.oracle.history import HistoryRecord, OrderPublished, ReadOrder, Response

Source = Literal["response", "row", "read"]

# The id of a placement without one: no other event of the order may use it.
PLACED_ID_DEFAULT = "placed"
SHIPPED, RETURNED, CHANGED = "order.shipped", "order.returned", "order.changed"
# The decisions on a forced order, which name no event.
APPROVED, UNAPPROVED = "order.approved", "order.unapproved"
# After these, held or promised units may have been released.
_RELEASING = frozenset({"order.cancelled", RETURNED, CHANGED})


class OrderSnapshot(NamedTuple):
    """An order at one sequence."""

    state: str
    channel: str
    placed_at: str
    expires_at: str | None
    lines: tuple[LineView, ...]

    def describe(self) -> str:
        """A short text for a violation."""
        lines = ", ".join(
            f"{line.quantity} {line.sku} {line.state} (reserved {line.reserved}, preordered {line.preordered},"
            f" shipped {line.shipped}, returned {line.returned}, promised {line.promised_at})"
            for line in self.lines
        )
        return f"{self.state} until {self.expires_at}: {lines}" if self.expires_at else f"{self.state}: {lines}"


_PACK = msgspec.msgpack.Encoder(order="deterministic")
_UNPACK: msgspec.msgpack.Decoder[OrderSnapshot] = msgspec.msgpack.Decoder(OrderSnapshot)


class RequestedMove:
    """A shipment or return that was requested: what it changes of on_hand if it is applied.

    It is applied, if at all, after `batch` and by `first_shown_batch`, that of the first row that shows it; 0: no row
    does yet. `certain`: Kafka acknowledged it, and it is in no dead letter; otherwise it may have been applied or not.
    """

    __slots__ = ("at", "batch", "body", "certain", "first_shown_batch", "id", "kind", "lines", "occurred_ms")

    def __init__(self, request: PendingRequest, id_: str, lines: tuple[SentLine, ...]) -> None:
        self.id = id_
        self.kind = request.kind
        self.at = request.at
        self.batch = request.batch
        self.body = request.body
        self.lines = lines
        self.occurred_ms = time_ms(request.event.occurred_at)
        self.certain = False
        self.first_shown_batch = 0


@dataclass(slots=True, eq=False)
class KnownOrder:
    """One order.

    `sequences`, `states` and `contents` are parallel lists, sorted by sequence. `acknowledged_sequence` is the highest
    one in responses and reads, `row_newest` and `row_last` the highest and the last one among rows. `bodies` are those
    of its placements, `accepted` the first one that was accepted. `events`: (id, body) of distinct events requested,
    flat, as hashes; `events_without_id`: the number of others. `asked_at`: the first request to place it.
    `may_have_released`: it may have released units since it was last seen. `may_be_taken_again`: a payment was to take
    it again if it is expired. `may_be_rerouted`: what it holds may move to another warehouse. `placed_paid`: it may
    have been paid with its placing. `placed_forced` and `placed_plain`: a placement was forced, another was not;
    `may_be_approved`: an approval was requested. `may_be_changed`: its lines may no longer be those that it was placed
    with.
    """

    order_id: str
    sequences: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    acknowledged_sequence: int = 0
    row_newest: int = 0
    row_last: int = 0
    bodies: tuple[int, ...] = ()
    accepted: int | None = None
    events: list[int] = field(default_factory=list)
    events_without_id: int = 0
    moves: list[RequestedMove] | None = None
    may_have_released: bool = False
    may_be_taken_again: bool = False
    may_be_rerouted: bool = False
    placed_paid: bool = False
    placed_forced: bool = False
    placed_plain: bool = False
    may_be_approved: bool = False
    may_be_changed: bool = False
    expiring_ms: int | None = None
    asked_at: int | None = None

    @property
    def sequence(self) -> int:
        """The newest sequence seen; 0 if none."""
        return self.sequences[-1] if self.sequences else 0

    @property
    def state(self) -> str:
        """The newest state; empty if none."""
        return self.states[-1] if self.states else ""

    def content(self, sequence: int | None = None) -> OrderSnapshot | None:
        """The order at a sequence, or the newest; None if not seen."""
        if sequence is None:
            return _UNPACK.decode(self.contents[-1]) if self.contents else None
        index = bisect_left(self.sequences, sequence)
        if index == len(self.sequences) or self.sequences[index] != sequence:
            return None
        return _UNPACK.decode(self.contents[index])

    def fills_max(self) -> int:
        """The most fills that can have changed it. Each gives at least one unit to a line that waits, which no row has
        to show; a line waits once more after a late payment, and after a change."""
        waits = 1 + self.may_be_taken_again + (len(self.events) // 2 if self.may_be_changed else 0)
        contents = map(_UNPACK.decode, self.contents)
        return waits * max((sum(line.quantity for line in content.lines) for content in contents), default=0)

    def was_promised(self) -> bool:
        """Whether a line ever had a promised date: the first one stays."""
        content = self.content()
        return content is not None and any(line.first_promised_at for line in content.lines)

    def has_hidden_states(self) -> bool:
        """Whether no record shows some of the states between the first and the newest one that are known."""
        return bool(self.sequences) and self.sequences[-1] - self.sequences[0] >= len(self.sequences)

    def requested_units(self, kind: str, sku: str) -> tuple[int, int]:
        """Units of a SKU in distinct shipments or returns: the certain ones, and those that may have been applied or
        not."""
        certain = possible = 0
        for move in self.moves or ():
            if move.kind == kind:
                units = sum(line.quantity for line in move.lines if line.sku == sku)
                if move.certain:
                    certain += units
                else:
                    possible += units
        return certain, possible

    def has_other_body(self, id_: str | None, body: int) -> bool:
        """Whether the id was also requested for this order with another body."""
        key = hash(id_)
        return any(
            self.events[index] == key and self.events[index + 1] != body for index in range(0, len(self.events), 2)
        )


@dataclass(slots=True, eq=False)
class OrderObservation:
    """An order was seen. `is_new`: at a new sequence; otherwise `previous_content` is the earlier content if it
    differs."""

    known: KnownOrder
    order: OrderView
    source: Source
    record: HistoryRecord
    index: int
    previous_content: bytes | None = None
    is_new: bool = False

    def contents(self) -> tuple[str, str]:
        """The earlier content of this sequence, and the observed one, as text."""
        before = _UNPACK.decode(self.previous_content) if self.previous_content is not None else None
        return before.describe() if before else "nothing", _snapshot(self.order).describe()


class OrderTracker(Listener):
    """Tracks all orders. `listeners` are called for every observation, before the next record is handled."""

    def __init__(self) -> None:
        self.orders: dict[str, KnownOrder] = {}
        self.listeners: list[Callable[[OrderObservation], None]] = []
        # The channels for which a policy was requested under which holds may move.
        self._rerouting: set[str] = set()

    def handlers(self) -> Handlers:
        return {OrderPublished: lambda row: self._observe(row.order, "row", row), ReadOrder: self._on_read}

    def __iter__(self) -> Iterator[KnownOrder]:
        return iter(self.orders.values())

    def order(self, order_id: str) -> KnownOrder:
        """An order, possibly not seen yet."""
        known = self.orders.get(order_id)
        if known is None:
            known = self.orders[order_id] = KnownOrder(order_id)
        return known

    def on_request(self, request: PendingRequest) -> None:
        """Add the request to its order, and set the request's `acknowledged_sequence` and `is_new`."""
        event = request.event
        if request.kind == "policy.put" and (event.policy or {}).get("reroute"):
            self._on_rerouting(event.channel)
        if not request.kind.startswith("order.") or not event.order_id:
            return
        known = self.order(event.order_id)
        request.acknowledged_sequence = known.acknowledged_sequence
        if event.supersedes:
            self.order(event.supersedes).may_have_released = True
        if request.kind == CHANGED:
            known.may_be_changed = True
        if request.kind == APPROVED:
            known.may_be_approved = True
        if event.if_expired:
            known.may_be_taken_again = True
        if request.kind in _RELEASING:
            known.may_have_released = True
        if request.kind == "order.placed":
            known.placed_paid = known.placed_paid or event.paid
            known.placed_forced = known.placed_forced or event.force
            known.placed_plain = known.placed_plain or not event.force
            if request.body not in known.bodies:
                known.bodies = (*known.bodies, request.body)
            known.asked_at = request.at if known.asked_at is None else known.asked_at
            request.is_new = _add_pair(known.events, hash(event.id or PLACED_ID_DEFAULT), request.body)
            return
        if event.id is None:
            known.events_without_id += request.kind not in (APPROVED, UNAPPROVED)
            return
        request.is_new = _add_pair(known.events, hash(event.id), request.body)
        if request.is_new and request.kind in (SHIPPED, RETURNED):
            known.moves = [*(known.moves or ()), RequestedMove(request, event.id, event.lines)]

    def _on_rerouting(self, channel: str) -> None:
        if channel in self._rerouting:
            return
        self._rerouting.add(channel)
        for known in self.orders.values():
            content = known.content()
            known.may_be_rerouted = known.may_be_rerouted or (content is not None and content.channel == channel)

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Add the response; one that shows an order is an observation."""
        event = request.event
        if not event.order_id or not request.kind.startswith("order."):
            return
        known = self.order(event.order_id)
        is_taken = response.status in (200, 201) and (response.order is not None or not event.force)
        if request.kind == "order.placed" and is_taken and known.accepted is None:
            known.accepted = request.body
        if known.moves and event.id is not None and response.status == 202:
            for move in known.moves:
                if move.id == event.id and move.body == request.body:
                    move.certain = True
        if response.order is not None:
            self._observe(response.order, "response", response)

    def _on_read(self, read: ReadOrder) -> None:
        if read.order is not None:
            self._observe(read.order, "read", read)

    def _observe(self, order: OrderView, source: Source, record: HistoryRecord) -> None:
        known = self.order(order.order_id)
        known.may_be_rerouted = known.may_be_rerouted or order.channel in self._rerouting
        sequence, content = order.sequence, _PACK.encode(_snapshot(order))
        index = bisect_left(known.sequences, sequence)
        if index < len(known.sequences) and known.sequences[index] == sequence:
            before = known.contents[index]
            observation = OrderObservation(known, order, source, record, index, before if before != content else None)
        else:
            known.sequences.insert(index, sequence)
            known.states.insert(index, intern(order.state))
            known.contents.insert(index, content)
            observation = OrderObservation(known, order, source, record, index, is_new=True)
            if index == len(known.sequences) - 1:
                known.expiring_ms = time_ms(order.expires_at) if order.state == "reserved" else None
        if known.moves and order.batch:
            _update_first_shown_batch(known, order)
        for listener in self.listeners:
            listener(observation)
        if source == "row":
            known.row_last = sequence
            known.row_newest = max(known.row_newest, sequence)
        else:
            known.acknowledged_sequence = max(known.acknowledged_sequence, sequence)


def _snapshot(order: OrderView) -> OrderSnapshot:
    return OrderSnapshot(order.state, order.channel, order.placed_at, order.expires_at, order.lines)


def _update_first_shown_batch(known: KnownOrder, order: OrderView) -> None:
    """A row shows what was shipped and returned by its batch: all requested moves, or not all yet."""
    shown = {(SHIPPED, line.sku): line.shipped for line in order.lines}
    shown |= {(RETURNED, line.sku): line.returned for line in order.lines}
    for move in known.moves or ():
        if not move.first_shown_batch and all(
            shown.get((move.kind, line.sku), 0) >= sum(known.requested_units(move.kind, line.sku))
            for line in move.lines
        ):
            move.first_shown_batch = order.batch


def _add_pair(pairs: list[int], first: int, second: int) -> bool:
    """Add a pair; False if it exists."""
    for index in range(0, len(pairs), 2):
        if pairs[index] == first and pairs[index + 1] == second:
            return False
    pairs += (first, second)
    return True
