"""The outcomes of a replay's orders and movements, and those still awaited.

In: the events that were sent, and rows of the topics. Out: counts of awaited events, outcomes by reason, shipments.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from stocktide.loadtest.client.contract import DeadLetterView, MovementView, OrderView
from stocktide.loadtest.client.events import Event, order_shipped, shipment_lines
from stocktide.loadtest.replay.stock_model import StockModel
from stocktide.loadtest.workload.retail import ID_PREFIX


class OutcomeTracker:
    """Folds rows into the stock model and into the outcome of each order and movement.

    `changed` is set at every outcome; `shippable` holds the shipments to send next.
    """

    def __init__(self, model: StockModel, ships: bool) -> None:
        self.model = model
        self.changed = asyncio.Event()
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
        # The lines to ship of orders that this run has not sent yet.
        self._unshipped: dict[str, list[Event]] = {}
        self._movements_sent: set[str] = set()
        self._movements_waiting: set[str] = set()
        self._movements_ended: dict[str, str] = {}

    def begin(self) -> None:
        """Count from here on: earlier rows are those of earlier runs."""
        self._counting = True
        self.model.changes = 0

    def sent_order(self, placed: Event) -> None:
        """Await an order that is about to be sent; it may have ended in an earlier run."""
        order_id = placed["order_id"]
        self._sent.add(order_id)
        if order_id in self._ended:
            self._count_outcome()
            return
        self._waiting[order_id] = placed["occurred_at"]
        if (shipment := self._unshipped.pop(order_id, None)) is not None:
            self._ship(order_id, shipment)

    def sent_movement(self, event: Event) -> None:
        """Await a movement that is about to be sent."""
        self._movements_sent.add(event["id"])
        if event["id"] not in self._movements_ended:
            self._movements_waiting.add(event["id"])

    def on_order(self, row: OrderView) -> None:
        """Handle a row of `reservations`."""
        if not self.model.take_order(row) or not row.order_id.startswith(ID_PREFIX):
            return
        self._placed[row.order_id] = row.outcome
        if self._is_final(row):
            self._unshipped.pop(row.order_id, None)
            self._end_order(row.order_id, _final_reason(row))
        elif self._ships and row.state == "paid":
            self._ship(row.order_id, shipment_lines(row))

    def on_movement(self, row: MovementView) -> None:
        """Handle a row of `adjustments`."""
        self.model.take_movement(row)
        self._end_movement(row.id, row.outcome)

    def on_dead_letter(self, dead_letter: DeadLetterView) -> None:
        """Handle a row of `dead-letters`: a rejected event of this run has its outcome too."""
        if not self._counting:
            return
        event = dead_letter.event()
        order_id, id_ = event.get("order_id"), event.get("id")
        if order_id in self._sent:
            self.dead_letters[dead_letter.reason] += 1
            if event.get("type") in ("order.placed", "order.shipped"):
                self._end_order(order_id, dead_letter.reason)
        elif id_ in self._movements_sent:
            self.dead_letters[dead_letter.reason] += 1
            self._end_movement(id_, self._movements_ended.get(id_, dead_letter.reason))

    def waiting(self) -> int:
        """How many orders were sent and have no outcome yet."""
        return len(self._waiting)

    def movements_waiting(self) -> int:
        """How many movements were sent and have no outcome yet."""
        return len(self._movements_waiting)

    def missing(self) -> list[str]:
        """The ids that have no outcome yet."""
        return sorted(self._waiting.keys() | self._movements_waiting)

    def outcomes(self) -> Counter[str]:
        """The final states of this run's orders, or the reasons of their rejection."""
        return Counter(self._ended.get(order_id, "unanswered") for order_id in self._sent)

    def placings(self) -> Counter[str]:
        """The outcomes of this run's `order.placed`."""
        return Counter(self._placed.get(order_id) or "unanswered" for order_id in self._sent)

    def movement_outcomes(self) -> Counter[str]:
        """The outcomes of this run's movements."""
        return Counter(self._movements_ended.get(id_, "unanswered") for id_ in self._movements_sent)

    def _is_final(self, row: OrderView) -> bool:
        if row.state == "reserved":
            return False
        if row.state == "paid" and self._ships:
            return not any(line.reserved for line in row.lines)
        return True

    def _ship(self, order_id: str, shipment: list[Event]) -> None:
        if (at := self._waiting.get(order_id)) is None:
            self._unshipped[order_id] = shipment
        elif order_id not in self._shipped:
            self._shipped.add(order_id)
            self.shippable.put_nowait(order_shipped(order_id, at, shipment))

    def _end_order(self, order_id: str, reason: str) -> None:
        self._ended[order_id] = reason
        if self._waiting.pop(order_id, None) is not None:
            self._count_outcome()

    def _end_movement(self, id_: str, outcome: str) -> None:
        self._movements_ended[id_] = outcome
        self._movements_waiting.discard(id_)
        self.changed.set()

    def _count_outcome(self) -> None:
        self.answered += 1
        self.changed.set()


def _final_reason(row: OrderView) -> str:
    if row.state != "rejected":
        return row.state
    return next((line.reason for line in row.lines if line.reason), row.state)
