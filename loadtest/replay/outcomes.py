"""Which orders and movements of a run still wait for their final answer, and how the others ended.

In: what the run sent, and every row that the feeds tell. Out: who waits, outcomes by reason, what to ship.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from stocktide.loadtest.client.events import ID_PREFIX, Event, shipped_of
from stocktide.loadtest.client.topics import RejectedEvent
from stocktide.loadtest.replay.stock_model import ReplayedMovement, ReplayedOrder, StockModel

# Units of an order that can be shipped: (sku, units, warehouse).
Shipment = list[tuple[str, int, str]]


class OutcomeTracker:
    """Folds rows into the oracle and, beside it, into what became of each order and movement.

    `moved` is set whenever something was answered; `shippable` gives the shipments to send next.
    """

    def __init__(self, oracle: StockModel, ships: bool) -> None:
        self.oracle = oracle
        self.moved = asyncio.Event()
        self.answered = 0
        self.dead_letters: Counter[str] = Counter()
        self.shippable: asyncio.Queue[Event] = asyncio.Queue()
        self._ships = ships
        self._counting = False
        self._sent: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._shipped: set[str] = set()
        self._ended: dict[str, str] = {}
        self._placed: dict[str, str] = {}
        self._unshipped: dict[str, Shipment] = {}
        self._movements_sent: set[str] = set()
        self._movements_waiting: set[str] = set()
        self._movements_ended: dict[str, str] = {}

    def begin(self) -> None:
        """From here on rows are this run's: until now they told what was known before."""
        self._counting = True
        self.oracle.changes = 0

    # What the run sends.

    def sent_order(self, placed: Event) -> None:
        """An order is about to be sent; it may have ended in an earlier run."""
        order_id = placed["order_id"]
        self._sent.add(order_id)
        if order_id in self._ended:
            self._answer()
            return
        self._waiting[order_id] = placed["occurred_at"]
        if (shipment := self._unshipped.pop(order_id, None)) is not None:
            self._ship(order_id, shipment)

    def sent_movement(self, event: Event) -> None:
        """A movement is about to be sent."""
        self._movements_sent.add(event["id"])
        if event["id"] not in self._movements_ended:
            self._movements_waiting.add(event["id"])

    # What the feeds tell.

    def on_order(self, row: ReplayedOrder) -> None:
        """A row of `reservations`."""
        if not self.oracle.take_order(row) or not row.order_id.startswith(ID_PREFIX):
            return
        self._placed[row.order_id] = row.outcome
        if self._is_final(row):
            self._unshipped.pop(row.order_id, None)
            self._end_order(row.order_id, _reason_of(row))
        elif self._ships and row.state == "paid":
            self._ship(row.order_id, _shipment_of(row))

    def on_movement(self, row: ReplayedMovement) -> None:
        """A row of `adjustments`."""
        self.oracle.take_movement(row)
        self._end_movement(row.id, row.outcome)

    def on_dead_letter(self, letter: RejectedEvent) -> None:
        """A row of `dead-letters`: an event of this run that was refused is answered too."""
        if not self._counting:
            return
        event = letter.event()
        order_id, id_ = event.get("order_id"), event.get("id")
        if order_id in self._sent:
            self.dead_letters[letter.reason] += 1
            if event.get("type") in ("order.placed", "order.shipped"):
                self._end_order(order_id, letter.reason)
        elif id_ in self._movements_sent:
            self.dead_letters[letter.reason] += 1
            self._end_movement(id_, self._movements_ended.get(id_, letter.reason))

    # How it stands.

    def waiting(self) -> int:
        """Orders that were sent and have no final answer yet."""
        return len(self._waiting)

    def movements_waiting(self) -> int:
        """Movements that were sent and not answered yet."""
        return len(self._movements_waiting)

    def missing(self) -> list[str]:
        """The ids that still wait."""
        return sorted(self._waiting.keys() | self._movements_waiting)

    def outcomes(self) -> Counter[str]:
        """How the orders of this run ended: their state, or the reason of a refusal."""
        return Counter(self._ended.get(order_id, "unanswered") for order_id in self._sent)

    def placings(self) -> Counter[str]:
        """How the placings of this run's orders were answered."""
        return Counter(self._placed.get(order_id) or "unanswered" for order_id in self._sent)

    def movement_outcomes(self) -> Counter[str]:
        """How the movements of this run were answered."""
        return Counter(self._movements_ended.get(id_, "unanswered") for id_ in self._movements_sent)

    def _is_final(self, row: ReplayedOrder) -> bool:
        if row.state == "reserved":
            return False
        if row.state == "paid" and self._ships:
            return not any(line.reserved for line in row.lines)
        return True

    def _ship(self, order_id: str, shipment: Shipment) -> None:
        if (at := self._waiting.get(order_id)) is None:
            self._unshipped[order_id] = shipment
        elif order_id not in self._shipped:
            self._shipped.add(order_id)
            self.shippable.put_nowait(shipped_of(order_id, at, shipment))

    def _end_order(self, order_id: str, reason: str) -> None:
        self._ended[order_id] = reason
        if self._waiting.pop(order_id, None) is not None:
            self._answer()

    def _end_movement(self, id_: str, outcome: str) -> None:
        self._movements_ended[id_] = outcome
        self._movements_waiting.discard(id_)
        self.moved.set()

    def _answer(self) -> None:
        self.answered += 1
        self.moved.set()


def _reason_of(row: ReplayedOrder) -> str:
    if row.state != "rejected":
        return row.state
    return next((line.reason for line in row.lines if line.reason), row.state)


def _shipment_of(row: ReplayedOrder) -> Shipment:
    return [
        (line.sku, units, warehouse)
        for line in row.lines
        for warehouse, units in line.warehouses.items()
        if line.reserved and units
    ]
