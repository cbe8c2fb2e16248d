"""Promise 1, no oversell: `oversold`.

In: receipts of warehouses, promises to callers, rows of `stock`. Out: a violation as soon as a record shows it.

Two tests, both certain. (1) The units of a warehouse that are promised to orders and cannot have been released exceed
all units that can have arrived there. (2) A row shows a negative availability at a warehouse, and no warehouse event
since the previous row explains the decrease: an order draws only from a positive number, so it can never lower a
negative one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import NamedTuple

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.bounds import DecreaseBounds, Location, ReceiptBounds
from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.history import HistoryRecord, Response
from stocktide.loadtest.oracle.movements import COUNTED, MovementObservation, MovementTracker
from stocktide.loadtest.oracle.orders import SHIPPED, KnownOrder, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.stocks import StockObservation, StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# Maximum difference between the clocks of the ledger and the recorder.
CLOCK_SKEW_MS = 1_000
_HOLDING = frozenset({"reserved", "paid", "shipped"})


class Oversold(Checker):
    """Promise 1: units were promised that were not there (rules 6, 7). Only a warehouse event makes a number
    negative.
    """

    name = "oversold"
    promise = 1

    def __init__(self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker) -> None:
        super().__init__()
        self._orders = orders
        self._receipts = ReceiptBounds(movements)
        self._decreases = DecreaseBounds(orders, movements)
        self._stocks = stocks
        # Units that are certainly promised, by location, and those of each order.
        self._promised: Counter[Location] = Counter()
        self._certain_holds: dict[str, tuple[tuple[Location, int], ...]] = {}
        self._expiring: list[tuple[int, str]] = []
        self._reported: set[Location] = set()
        # The time of the last count at each location.
        self._counted_at_ms: dict[Location, int] = {}
        self._unresolved: list[_Shortfall] = []
        orders.listeners.append(self._observe)
        stocks.listeners.append(self._on_stock_row)
        # After the listener of `DecreaseBounds`, which has to see a movement first.
        movements.listeners.append(self._on_movement)

    def on_request(self, request: PendingRequest) -> None:
        """From now on the request may have any of its effects."""
        self._receipts.on_request(request)
        self._decreases.on_request(request)
        event = request.event
        if request.kind == "policy.put" and (event.policy or {}).get("reroute"):
            for holder in [each for each in self._certain_holds if self._orders.order(each).may_be_rerouted]:
                self._drop(holder)
        if not request.kind.startswith("order."):
            return
        for order_id in (event.order_id, event.supersedes):
            if order_id and (known := self._orders.orders.get(order_id)) is not None:
                # A shipment from another warehouse releases the units held here.
                shipped = request.kind == SHIPPED and (
                    not self._is_from_own_hold(known) or self._is_in_later_count(known, 0)
                )
                known.may_have_released = known.may_have_released or shipped
                if known.may_have_released:
                    self._drop(order_id)

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """A rejected request has no effect."""
        if response.status >= 400:
            self._receipts.on_rejected(request)

    def _observe(self, observation: OrderObservation) -> None:
        order, known = observation.order, observation.known
        latest_now = observation.record.at + CLOCK_SKEW_MS
        self._expire(latest_now)
        if order.sequence < known.sequence:
            return
        expired = order.state == "reserved" and known.expiring_ms is not None and known.expiring_ms <= latest_now
        if order.state not in _HOLDING or known.may_have_released or known.may_be_rerouted or expired:
            self._drop(order.order_id)
        elif order.order_id not in self._certain_holds:
            units = tuple(
                ((line.sku, warehouse), count) for line in order.lines for warehouse, count in line.warehouses.items()
            )
            if units:
                self._promise(order.order_id, units, observation.record)
        if order.state == "reserved" and known.expiring_ms is not None and observation.is_new:
            heapq.heappush(self._expiring, (known.expiring_ms, order.order_id))

    def _promise(self, order_id: str, units: tuple[tuple[Location, int], ...], record: HistoryRecord) -> None:
        self._certain_holds[order_id] = units
        for place, count in units:
            self.looked["promises"] += 1
            promised = self._promised[place] = self._promised[place] + count
            received = self._receipts.upper_bound(place)
            if (
                received is None
                or promised <= received
                or place in self._reported
                or self._stocks.existed_before_run(place[0])
            ):
                continue
            self._reported.add(place)
            sku, warehouse = place
            what = (
                f"{promised} {sku} of {warehouse} are promised at once, the last {count} to order {order_id}, and at"
                f" most {received} had come there"
            )
            self.found(what, record.at, sku=sku, warehouse=warehouse, order_id=order_id)

    def _is_from_own_hold(self, known: KnownOrder) -> bool:
        """Whether all requested shipments of an order are of units that it holds, from where it holds them."""
        shipped: Counter[Location] = Counter()
        for move in known.moves or ():
            if move.kind == SHIPPED:
                for line in move.lines:
                    shipped[line.sku, line.warehouse] += line.quantity
        return shipped <= Counter(dict(self._certain_holds.get(known.order_id, ())))

    def _is_in_later_count(self, known: KnownOrder, batch: int) -> bool:
        """Whether a shipment that no row up to `batch` shows left before a later count of its location: the count then
        excludes the units, and those that the order held are available to others (rule 35)."""
        return any(
            move.kind == SHIPPED
            and not (move.first_shown_batch and move.first_shown_batch <= batch)
            and any(
                (move.occurred_ms or 0) <= self._counted_at_ms.get((line.sku, line.warehouse), -1)
                for line in move.lines
            )
            for move in known.moves or ()
        )

    def _drop(self, order_id: str) -> None:
        for place, count in self._certain_holds.pop(order_id, ()):
            self._promised[place] -= count

    def _expire(self, now_ms: int) -> None:
        """Holds that may have expired by now are no longer certain, unless the order is known to be paid."""
        while self._expiring and self._expiring[0][0] <= now_ms:
            due, order_id = heapq.heappop(self._expiring)
            known = self._orders.order(order_id)
            if known.state == "reserved" and (known.expiring_ms or 0) <= due:
                self._drop(order_id)

    def _on_stock_row(self, observation: StockObservation) -> None:
        stock, before = observation.stock, observation.before
        self.looked["rows of stock"] += 1
        if (before is None and observation.known.existed_before_run) or (
            before is not None and stock.version <= before.version
        ):
            return
        for warehouse, shelf in stock.warehouses.items():
            if shelf.available >= 0:
                continue
            shelf_before = None if before is None else before.warehouses.get(warehouse)
            was = min(0, 0 if shelf_before is None else shelf_before.available)
            if shelf.available < was:
                since = 0 if before is None else before.batch
                self._check(_Shortfall(stock, warehouse, was, shelf.available, since, observation.row.at))

    def _check(self, shortfall: _Shortfall, complete: bool = False) -> None:
        """Report a shortfall that no event explains; check again later if open events may explain it."""
        stock = shortfall.stock
        needed = shortfall.was - shortfall.available
        known_units, possible_units = self._decreases.decrease(
            stock.sku, shortfall.warehouse, shortfall.since, stock.batch, complete
        )
        if known_units >= needed:
            return
        if known_units + possible_units >= needed:
            self._unresolved.append(shortfall)
            return
        what = (
            f"{shortfall.available} {stock.sku} are available at {shortfall.warehouse} at version {stock.version},"
            f" after {shortfall.was}: warehouses' facts since batch {shortfall.since} lowered it by"
            f" {known_units + possible_units} at most"
        )
        self.found(what, shortfall.at, sku=stock.sku, warehouse=shortfall.warehouse)

    def _on_movement(self, observation: MovementObservation) -> None:
        if observation.is_new and observation.movement.type == COUNTED:
            self._on_count(observation)
        if observation.has_new_batch and self._unresolved:
            self._recheck(observation)

    def _recheck(self, observation: MovementObservation) -> None:
        """Check the shortfalls that the movement may explain. A rejected movement has no lines: it may have concerned
        any SKU of its warehouse."""
        warehouse, skus = observation.movement.warehouse, {line.sku for line in observation.movement.lines}
        unresolved, self._unresolved = self._unresolved, []
        for shortfall in unresolved:
            if shortfall.warehouse == warehouse and (not skus or shortfall.stock.sku in skus):
                self._check(shortfall)
            else:
                self._unresolved.append(shortfall)

    def _on_count(self, observation: MovementObservation) -> None:
        for line in observation.movement.lines:
            place = (line.sku, observation.movement.warehouse)
            self._counted_at_ms[place] = max(self._counted_at_ms.get(place, 0), observation.known.occurred_ms or 0)
        for order_id in list(self._certain_holds):
            known = self._orders.order(order_id)
            if self._is_in_later_count(known, observation.movement.batch):
                known.may_have_released = True
                self._drop(order_id)

    def end(self) -> None:
        """The effects of all events are known: check the unresolved shortfalls."""
        unresolved, self._unresolved = self._unresolved, []
        for shortfall in unresolved:
            self._check(shortfall, complete=True)


class _Shortfall(NamedTuple):
    """A row with a negative availability below that of the previous row, which is of batch `since`."""

    stock: StockView
    warehouse: str
    was: int
    available: int
    since: int
    at: int
