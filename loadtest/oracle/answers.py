"""Promise 2, an answer stands: `answer_lost` and `answer_contradicted`.

In: sights of orders, answers, reads. What a caller was told is an order at a sequence. It stands if whoever asks later
is told of that sequence or a newer one, and if nobody is ever told anything else of the same sequence.
A GET may show an older batch while two servers take themselves for the primary; answers of other calls never may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stocktide.loadtest.oracle.dispatcher import PendingRequest, sum_lines
from stocktide.loadtest.oracle.history import (
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
    Response,
    RunQuiesced,
    StockPublished,
)
from stocktide.loadtest.oracle.orders import PLACED_ID_DEFAULT, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.policies import PolicyLevels
from stocktide.loadtest.oracle.verdict import Checker

# An order may be extended so often; the next extension is refused (rule 42).
EXTENSIONS_MAX = 64

# The states in which an order may be once a call was answered with 200 or 201. Others' calls may have followed in the
# same step, so it need not be the one that the call brought about.
_TAKEN: Mapping[str, frozenset[str]] = {
    "order.placed": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    "order.paid": frozenset({"paid", "shipped", "cancelled"}),
    "order.cancelled": frozenset({"cancelled", "shipped"}),
    "order.extended": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
}
# The states in which an order may be once a call was refused as `already_final`.
_TOO_LATE: Mapping[str, frozenset[str]] = {
    "order.paid": frozenset({"cancelled", "expired", "rejected"}),
    "order.cancelled": frozenset({"shipped", "expired", "rejected"}),
    "order.extended": frozenset({"paid", "shipped", "cancelled", "expired", "rejected"}),
}


class AnswerContradicted(Checker):
    """Promise 2: two answers that cannot both be true.

    One sequence told with two states; an answer older than what had been told before it was asked; an outcome that
    does not go with the state it shows; a refusal after which the same order is taken, or the reverse; a conflict
    where there is none, or none where there is one (rules 19, 20, 22, 23, 25).
    """

    name = "answer_contradicted"
    promise = "What a caller was told is never contradicted."

    def __init__(self, book: OrderTracker) -> None:
        super().__init__()
        self._book = book
        self._known_skus: dict[str, int] = {}
        self._rests = False
        book.listen(self._see)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """What makes a SKU known, and what is final."""
        return {
            StockPublished: self._know,
            RunQuiesced: lambda _: setattr(self, "_rests", True),
        }

    def _know(self, row: StockPublished) -> None:
        self._known_skus.setdefault(row.stock.sku, row.at)

    def told(self, ask: PendingRequest, told: Response) -> None:
        """Judge an answer by itself, and against what was told before it was asked."""
        event = ask.event
        if event is None or not ask.kind.startswith("order.") or ask.door != "http":
            return
        self.looked["answers"] += 1
        order = told.order
        if told.status in (200, 201):
            self._taken(ask, told)
        elif told.status == 409:
            self._refused(ask, told)
        if order is not None and order.sequence < ask.floor:
            what = f"was told at sequence {order.sequence}, although {ask.floor} had been told before it was asked"
            self._contradicted(ask, told, what)

    def _see(self, sight: OrderObservation) -> None:
        self.looked["sights of orders"] += 1
        order, at = sight.order, sight.record.at
        if sight.other is not None:
            before, now = sight.contents()
            what = f"order {order.order_id} was at sequence {order.sequence} “{before}”, and also “{now}”"
            self.found(what, at, order_id=order.order_id)
        elif sight.fresh and order.state == "reserved" and (wrong := _cut(sight)):
            self.found(f"order {order.order_id}: {wrong}", at, order_id=order.order_id)
        if sight.source == "read" and self._rests and order.sequence < sight.known.sequence:
            what = (
                f"order {order.order_id} rests at sequence {order.sequence}, {order.state}, although it was seen at"
                f" {sight.known.sequence}, {sight.known.state}"
            )
            self.found(what, at, order_id=order.order_id)

    def _taken(self, ask: PendingRequest, told: Response) -> None:
        order, event = told.order, ask.event
        assert event is not None
        if order is None:
            return self._contradicted(ask, told, f"was answered {told.status} without the order")
        if order.state not in _TAKEN.get(ask.kind, ()):
            self._contradicted(ask, told, f"was answered {told.status}, and the order is {order.state}")
        if ask.kind != "order.placed":
            return None
        lines = tuple((line.sku, line.quantity) for line in order.lines)
        if order.channel != event.channel or lines != sum_lines(event.lines):
            self._contradicted(ask, told, f"was answered {told.status} with another order: {order.channel}, {lines}")
        accepted = self._book.order(order.order_id).accepted
        if accepted is not None and accepted != ask.body:
            self._contradicted(ask, told, "was taken, although another body had been taken under that order_id")
        return None

    def _refused(self, ask: PendingRequest, told: Response) -> None:
        event, order = ask.event, told.order
        assert event is not None
        known = self._book.order(event.order_id)
        if told.code == "conflict":
            self._conflict(ask, told)
        elif told.code == "already_final" and order is not None and ask.kind in _TOO_LATE:
            if order.state not in _TOO_LATE[ask.kind]:
                self._contradicted(ask, told, f"was refused as already_final, and the order is {order.state}")
        elif told.code == "too_many_events" and ask.kind != "order.extended":
            self._contradicted(ask, told, "was refused as too_many_events, and only extensions may be")
        elif told.code == "too_many_events" and len(known.events) // 2 + known.unnamed <= EXTENSIONS_MAX:
            self._contradicted(ask, told, "was refused as too_many_events, and fewer were ever asked")
        elif ask.kind == "order.placed" and ask.body == known.accepted:
            self._contradicted(ask, told, f"was refused as {told.code} after it had been taken")
        if ask.kind == "order.placed" and order is not None and known.asked_at is not None:
            for line in order.lines:
                if line.reason == "unknown_sku" and self._known_skus.get(line.sku, ask.at) < known.asked_at:
                    self._contradicted(ask, told, f"says that {line.sku} is unknown, and it had been published before")

    def _conflict(self, ask: PendingRequest, told: Response) -> None:
        event = ask.event
        assert event is not None
        known = self._book.order(event.order_id)
        if ask.kind != "order.placed":
            if not known.asked_elsewhere(event.id, ask.body):
                self._contradicted(ask, told, "is called a conflict, and its id was asked for nothing else")
            return
        if ask.body == known.accepted:
            self._contradicted(ask, told, "is called a conflict, and this very body had been taken")
        elif (
            known.bodies == (ask.body,)
            and event.supersedes is None
            and not known.asked_elsewhere(event.id or PLACED_ID_DEFAULT, ask.body)
        ):
            self._contradicted(ask, told, "is called a conflict, and no other body was ever sent")

    def _contradicted(self, ask: PendingRequest, told: Response, what: str) -> None:
        assert ask.event is not None
        order_id = ask.event.order_id
        self.found(f"{ask.kind} of {order_id} (request {ask.number}) {what}", told.at, order_id=order_id)


class AnswerLost(Checker):
    """Promise 2: told, and gone.

    At rest every order that an answer or a GET told is there, at that sequence or a newer one, in GET and among the
    rows of `reservations`; no call was answered that it is unknown after it had been told; a SKU or movement that was
    known stays known. A policy that was told to be set is the one in force, unless another came after it.
    """

    name = "answer_lost"
    promise = "What a caller was told is never lost."

    def __init__(self, book: OrderTracker) -> None:
        super().__init__()
        self._book = book
        self._rests = False
        self._skus: set[str] = set()
        self._movements: set[tuple[str, str]] = set()
        # By order: the sequence at which it rests, 0 where it was not found.
        self._final: dict[str, int] = {}
        self._policies = PolicyLevels()

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Reads, and what makes a SKU known."""
        return {
            RunQuiesced: lambda _: setattr(self, "_rests", True),
            ReadOrder: self._read_order,
            ReadStock: self._read_stock,
            ReadMovement: self._read_movement,
            ReadPolicy: self._read_policy,
            StockPublished: lambda row: self._skus.add(row.stock.sku),
        }

    def silent(self, ask: PendingRequest) -> None:
        """A policy that may have been set at any time."""
        self._policies.silent(ask)

    def told(self, ask: PendingRequest, told: Response) -> None:
        """Nobody may be told that an order is unknown once it was told."""
        self._policies.told(ask, told)
        if told.status == 404 and ask.floor and ask.event is not None and ask.kind.startswith("order."):
            order_id = ask.event.order_id
            what = f"{ask.kind} of {order_id} (request {ask.number}) was answered 404 after the order had been told"
            self.found(what, told.at, order_id=order_id)

    def _read_order(self, read: ReadOrder) -> None:
        if self._rests:
            self._final[read.order_id] = 0 if read.order is None else read.order.sequence

    def _read_policy(self, read: ReadPolicy) -> None:
        if self._rests and (wrong := self._policies.wrong(read)):
            self.found(wrong, read.at, channel=read.channel, sku=read.sku)

    def _read_stock(self, read: ReadStock) -> None:
        if read.stock is not None:
            self._skus.add(read.sku)
        elif self._rests and read.sku in self._skus:
            self.found(f"SKU {read.sku} was published, and is unknown at the end", read.at, sku=read.sku)

    def _read_movement(self, read: ReadMovement) -> None:
        key = (read.warehouse, read.id)
        if read.movement is not None:
            self._movements.add(key)
        elif self._rests and key in self._movements:
            what = f"movement {read.id} of {read.warehouse} was told, and is unknown at the end"
            self.found(what, read.at, warehouse=read.warehouse, id=read.id)

    def end(self) -> None:
        """Compare what was told with what is there at rest."""
        if not self._rests:
            return
        for known in self._book:
            if not known.floor:
                continue
            order_id, final = known.order_id, self._final.get(known.order_id)
            if known.row_newest < known.floor:
                what = (
                    f"order {order_id} was told at sequence {known.floor}, and the topic reservations ends at"
                    f" {known.row_newest or 'none'}"
                )
                self.found(what, order_id=order_id)
            if final is None:
                self.remarks["told orders that nobody read at rest"] += 1
                continue
            self.looked["orders that were told"] += 1
            if final < known.floor:
                where = f"rests at {final}" if final else "is unknown at the end"
                self.found(f"order {order_id} was told at sequence {known.floor}, and {where}", order_id=order_id)


def _cut(sight: OrderObservation) -> str | None:
    """What is wrong with the lines of a hold: each is taken whole or not at all (rule 21)."""
    for line in sight.order.lines:
        if line.reserved + line.preordered not in (0, line.quantity):
            return f"a hold of {line.reserved + line.preordered} of the {line.quantity} {line.sku} that were asked"
        if sum(line.warehouses.values()) != line.reserved:
            return f"{line.reserved} {line.sku} are reserved, at the warehouses {line.warehouses}"
    return None
