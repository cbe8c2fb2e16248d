"""What is known of every order, folded from whatever tells of it: answers, reads, rows of `reservations`.

In: the stream of a history. Out: a `OrderObservation` for whoever listens, each time an order is seen; and at the end
all orders.

`sequence` is the order's own change counter, so each sequence names exactly one state of it, whoever tells: that
state is kept, packed. Rows may come again and late, reads may be of an older batch; neither is wrong by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from sys import intern
from typing import Any, Literal, NamedTuple

import msgspec

from stocktide.loadtest.client.contract import LineView, OrderView
from stocktide.loadtest.oracle.dispatcher import PendingRequest, SentLine, time_ms
from stocktide.loadtest.oracle.history import HistoryRecord, OrderPublished, ReadOrder, Response

Source = Literal["told", "row", "read"]

# The id of a placing that names none: a caller may not use it for anything else of the order.
PLACED_ID_DEFAULT = "placed"
SHIPPED, RETURNED = "order.shipped", "order.returned"
# After these a hold, or a unit that was promised, may have been given back.
_LOOSENING = frozenset({"order.cancelled", RETURNED})


class OrderSnapshot(NamedTuple):
    """An order at one sequence."""

    state: str
    channel: str
    placed_at: str
    expires_at: str | None
    lines: tuple[LineView, ...]

    def told(self) -> str:
        """In short, for a finding."""
        lines = ", ".join(
            f"{line.quantity} {line.sku} {line.state} (reserved {line.reserved}, preordered {line.preordered},"
            f" shipped {line.shipped}, returned {line.returned})"
            for line in self.lines
        )
        return f"{self.state} until {self.expires_at}: {lines}" if self.expires_at else f"{self.state}: {lines}"


_PACK = msgspec.msgpack.Encoder(order="deterministic")
_UNPACK: msgspec.msgpack.Decoder[OrderSnapshot] = msgspec.msgpack.Decoder(OrderSnapshot)


class RequestedMove:
    """A shipment or a return that was asked for, by its id: what it moves of on_hand, if it was applied.

    If it was applied, then in a batch after `batch` and up to `seen`, the first row that shows it; 0: none did yet.
    `sure`: Kafka took it, and it is in no dead letter; else it may have happened or not.
    """

    __slots__ = ("at", "batch", "body", "id", "kind", "lines", "occurred_ms", "seen", "sure")

    def __init__(self, ask: PendingRequest, id_: str, lines: tuple[SentLine, ...]) -> None:
        self.id = id_
        self.kind = ask.kind
        self.at = ask.at
        self.batch = ask.batch
        self.body = ask.body
        self.lines = lines
        self.occurred_ms = time_ms(None if ask.event is None else ask.event.occurred_at)
        self.sure = False
        self.seen = 0


class KnownOrder:
    """What is known of one order.

    `sequences`, `states` and `contents` go together, sorted. `floor`: the highest sequence that an answer told.
    `row_newest`, `row_last`: the highest and the last sequence among rows. `bodies`: those under which it was placed;
    `accepted`: the first that was told to be taken. `events`: (id, body) of distinct events asked, flat, as hashes;
    `unnamed`: events that were asked without an id. `asked_at`: when it was first asked to be placed.
    `loose`: it may have given units back since it was seen.
    """

    __slots__ = (
        "accepted",
        "asked_at",
        "bodies",
        "contents",
        "events",
        "expiring_ms",
        "floor",
        "loose",
        "moves",
        "order_id",
        "row_last",
        "row_newest",
        "sequences",
        "states",
        "unnamed",
    )

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        self.sequences: list[int] = []
        self.states: list[str] = []
        self.contents: list[bytes] = []
        self.floor = 0
        self.row_newest = 0
        self.row_last = 0
        self.bodies: tuple[int, ...] = ()
        self.accepted: int | None = None
        self.events: list[int] = []
        self.unnamed = 0
        self.moves: list[RequestedMove] | None = None
        self.loose = False
        self.expiring_ms: int | None = None
        self.asked_at: int | None = None

    @property
    def sequence(self) -> int:
        """The newest sequence that was seen; 0: it was never seen."""
        return self.sequences[-1] if self.sequences else 0

    @property
    def state(self) -> str:
        """The newest state; empty where it was never seen."""
        return self.states[-1] if self.states else ""

    def content(self, sequence: int | None = None) -> OrderSnapshot | None:
        """The order at a sequence, or the newest; None where that was not seen."""
        if sequence is None:
            return _UNPACK.decode(self.contents[-1]) if self.contents else None
        index = bisect_left(self.sequences, sequence)
        if index == len(self.sequences) or self.sequences[index] != sequence:
            return None
        return _UNPACK.decode(self.contents[index])

    def moved(self, kind: str, sku: str) -> tuple[int, int]:
        """Units of a SKU that distinct shipments or returns were to move: those that Kafka took, and those that may
        have come or not."""
        sure = maybe = 0
        for move in self.moves or ():
            if move.kind == kind:
                units = sum(line.quantity for line in move.lines if line.sku == sku)
                if move.sure:
                    sure += units
                else:
                    maybe += units
        return sure, maybe

    def asked_elsewhere(self, id_: str | None, body: int) -> bool:
        """Whether the id was also asked of this order with another body."""
        key = hash(id_)
        return any(
            self.events[index] == key and self.events[index + 1] != body for index in range(0, len(self.events), 2)
        )


class OrderObservation:
    """An order was seen. `fresh`: at a sequence that was not known; else `other` is what differs from before."""

    __slots__ = ("fresh", "index", "known", "order", "other", "record", "source")

    def __init__(
        self,
        known: KnownOrder,
        order: OrderView,
        source: Source,
        record: HistoryRecord,
        index: int,
        other: bytes | None,
    ) -> None:
        self.known = known
        self.order = order
        self.source = source
        self.record = record
        self.index = index
        self.fresh = False
        self.other = other

    def contents(self) -> tuple[str, str]:
        """What was known of this sequence, and what was seen now."""
        before = _UNPACK.decode(self.other) if self.other is not None else None
        return before.told() if before else "nothing", _content(self.order).told()


class OrderTracker:
    """All orders. Listeners are told of each sight before the next record is heard."""

    def __init__(self) -> None:
        self.orders: dict[str, KnownOrder] = {}
        self._listeners: list[Callable[[OrderObservation], None]] = []

    def listen(self, listener: Callable[[OrderObservation], None]) -> None:
        """Tell `listener` of every sight."""
        self._listeners.append(listener)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Rows and reads."""
        return {OrderPublished: self._row, ReadOrder: self._read}

    def __iter__(self) -> Iterator[KnownOrder]:
        return iter(self.orders.values())

    def order(self, order_id: str) -> KnownOrder:
        """An order, maybe not seen yet."""
        known = self.orders.get(order_id)
        if known is None:
            known = self.orders[order_id] = KnownOrder(order_id)
        return known

    def asked(self, ask: PendingRequest) -> None:
        """Note who may have done what; sets the ask's floor."""
        event = ask.event
        if event is None or not ask.kind.startswith("order.") or not event.order_id:
            return
        known = self.order(event.order_id)
        ask.floor = known.floor
        if event.supersedes:
            self.order(event.supersedes).loose = True
        if ask.kind in _LOOSENING:
            known.loose = True
        if ask.kind == "order.placed":
            if ask.body not in known.bodies:
                known.bodies = (*known.bodies, ask.body)
            known.asked_at = ask.at if known.asked_at is None else known.asked_at
            ask.new = _note(known.events, hash(event.id or PLACED_ID_DEFAULT), ask.body)
            return
        if event.id is None:
            known.unnamed += 1
            return
        ask.new = _note(known.events, hash(event.id), ask.body)
        if ask.new and ask.kind in (SHIPPED, RETURNED):
            known.moves = [*(known.moves or ()), RequestedMove(ask, event.id, event.lines)]

    def told(self, ask: PendingRequest, told: Response) -> None:
        """An answer; one that shows an order is a sight."""
        event = ask.event
        if event is None or not event.order_id or not ask.kind.startswith("order."):
            return
        known = self.order(event.order_id)
        if ask.kind == "order.placed" and told.status in (200, 201) and known.accepted is None:
            known.accepted = ask.body
        if known.moves and event.id is not None and told.status == 202:
            for move in known.moves:
                if move.id == event.id and move.body == ask.body:
                    move.sure = True
        if told.order is not None:
            self._see(told.order, "told", told)

    def _row(self, row: OrderPublished) -> None:
        self._see(row.order, "row", row)

    def _read(self, read: ReadOrder) -> None:
        if read.order is not None:
            self._see(read.order, "read", read)

    def _see(self, order: OrderView, source: Source, record: HistoryRecord) -> None:
        known = self.order(order.order_id)
        sequence, content = order.sequence, _PACK.encode(_content(order))
        index = bisect_left(known.sequences, sequence)
        if index < len(known.sequences) and known.sequences[index] == sequence:
            before = known.contents[index]
            sight = OrderObservation(known, order, source, record, index, before if before != content else None)
        else:
            known.sequences.insert(index, sequence)
            known.states.insert(index, intern(order.state))
            known.contents.insert(index, content)
            sight = OrderObservation(known, order, source, record, index, None)
            sight.fresh = True
            if index == len(known.sequences) - 1:
                known.expiring_ms = time_ms(order.expires_at) if order.state == "reserved" else None
        if known.moves and order.batch:
            _note_seen(known, order)
        for listener in self._listeners:
            listener(sight)
        if source == "row":
            known.row_last = sequence
            known.row_newest = max(known.row_newest, sequence)
        else:
            known.floor = max(known.floor, sequence)


def _content(order: OrderView) -> OrderSnapshot:
    return OrderSnapshot(order.state, order.channel, order.placed_at, order.expires_at, order.lines)


def _note_seen(known: KnownOrder, order: OrderView) -> None:
    """A row shows what was shipped and returned by its batch: all that was asked, or not all yet."""
    moved = {(SHIPPED, line.sku): line.shipped for line in order.lines}
    moved |= {(RETURNED, line.sku): line.returned for line in order.lines}
    for move in known.moves or ():
        if not move.seen and all(
            moved.get((move.kind, line.sku), 0) >= sum(known.moved(move.kind, line.sku)) for line in move.lines
        ):
            move.seen = order.batch


def _note(pairs: list[int], first: int, second: int) -> bool:
    """Add a pair; False where it is there."""
    for index in range(0, len(pairs), 2):
        if pairs[index] == first and pairs[index + 1] == second:
            return False
    pairs += (first, second)
    return True
