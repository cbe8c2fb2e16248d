"""Promise 1, no oversell: `oversold`.

In: what warehouses gave, what callers were promised, rows of `stock`. Out: a finding the moment that either shows it.

Two ways to see it, both sure. (1) The units of a warehouse that orders were promised and cannot have given back exceed
all units that can have come there by then. (2) A row shows less than nothing available at a warehouse, and no fact of a
warehouse since the row before explains by how much: an order draws from what is positive only, so it can never make a
negative number larger.
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

# By so much the clocks of ledger and tester may differ before an expiry is taken for one that has not come yet.
CLOCK_SKEW_MS = 1_000
_HOLDING = frozenset({"reserved", "paid", "shipped"})


class Oversold(Checker):
    """Promise 1: units were promised that were not there (rules 6, 7; only a warehouse's fact makes a number
    negative)."""

    name = "oversold"
    promise = "An order never takes a unit that is not there."

    def __init__(
        self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker, clock_skew_ms: int = CLOCK_SKEW_MS
    ) -> None:
        super().__init__()
        self._orders = orders
        self._given = ReceiptBounds(movements)
        self._facts = DecreaseBounds(orders, movements)
        self._stocks = stocks
        self._clock_skew_ms = clock_skew_ms
        # Promises that surely stand, by (SKU, warehouse), and what of them is each order's.
        self._promised: Counter[Location] = Counter()
        self._standing: dict[str, tuple[tuple[Location, int], ...]] = {}
        self._expiring: list[tuple[int, str]] = []
        self._told_of: set[Location] = set()
        # The time, ms, as of which each place was counted last.
        self._counted: dict[Location, int] = {}
        self._excused: list[_Short] = []
        orders.listen(self._see)
        stocks.listen(self._row)
        # After `DecreaseBounds`, which hear of a movement first.
        movements.listen(self._moved)

    def asked(self, ask: PendingRequest) -> None:
        """What an ask may bring or take, it may from now on."""
        self._given.asked(ask)
        self._facts.asked(ask)
        event = ask.event
        if event is None or not ask.kind.startswith("order."):
            return
        for order_id in (event.order_id, event.supersedes):
            if order_id and (known := self._orders.orders.get(order_id)) is not None:
                # What is shipped from elsewhere gives back what was held here.
                shipped = ask.kind == SHIPPED and (not self._is_promised(known) or self._is_counted(known, 0))
                known.loose = known.loose or shipped
                if known.loose:
                    self._drop(order_id)

    def told(self, ask: PendingRequest, told: Response) -> None:
        """What was refused brings nothing."""
        if told.status >= 400:
            self._given.refused(ask)

    def _see(self, sight: OrderObservation) -> None:
        order, known = sight.order, sight.known
        by_now = sight.record.at + self._clock_skew_ms
        self._expire(by_now)
        if order.sequence < known.sequence:
            return
        over = order.state == "reserved" and known.expiring_ms is not None and known.expiring_ms <= by_now
        if order.state not in _HOLDING or known.loose or over:
            self._drop(order.order_id)
        elif order.order_id not in self._standing:
            units = tuple(
                ((line.sku, warehouse), count) for line in order.lines for warehouse, count in line.warehouses.items()
            )
            if units:
                self._promise(order.order_id, units, sight.record)
        if order.state == "reserved" and known.expiring_ms is not None and sight.fresh:
            heapq.heappush(self._expiring, (known.expiring_ms, order.order_id))

    def _promise(self, order_id: str, units: tuple[tuple[Location, int], ...], record: HistoryRecord) -> None:
        self._standing[order_id] = units
        for place, count in units:
            self.looked["promises"] += 1
            promised = self._promised[place] = self._promised[place] + count
            given = self._given.at_most(place)
            if given is None or promised <= given or place in self._told_of or self._stocks.is_old(place[0]):
                continue
            self._told_of.add(place)
            sku, warehouse = place
            what = (
                f"{promised} {sku} of {warehouse} are promised at once, the last {count} to order {order_id}, and at"
                f" most {given} had come there"
            )
            self.found(what, record.at, sku=sku, warehouse=warehouse, order_id=order_id)

    def _is_promised(self, known: KnownOrder) -> bool:
        """Whether all that is said to be shipped of an order is what it was promised, where it was promised."""
        shipped: Counter[Location] = Counter()
        for move in known.moves or ():
            if move.kind == SHIPPED:
                for line in move.lines:
                    shipped[line.sku, line.warehouse] += line.quantity
        return shipped <= Counter(dict(self._standing.get(known.order_id, ())))

    def _is_counted(self, known: KnownOrder, batch: int) -> bool:
        """Whether a shipment that no row of up to `batch` shows left before its place was counted: then it is in that
        count, and what the order held is on the shelf for others (rule 35)."""
        return any(
            move.kind == SHIPPED
            and not (move.seen and move.seen <= batch)
            and any((move.occurred_ms or 0) <= self._counted.get((line.sku, line.warehouse), -1) for line in move.lines)
            for move in known.moves or ()
        )

    def _drop(self, order_id: str) -> None:
        for place, count in self._standing.pop(order_id, ()):
            self._promised[place] -= count

    def _expire(self, now_ms: int) -> None:
        """Holds that may be over by now are not sure any more, unless they are known to be paid."""
        while self._expiring and self._expiring[0][0] <= now_ms:
            due, order_id = heapq.heappop(self._expiring)
            known = self._orders.order(order_id)
            if known.state == "reserved" and (known.expiring_ms or 0) <= due:
                self._drop(order_id)

    def _row(self, sight: StockObservation) -> None:
        stock, before = sight.stock, sight.before
        self.looked["rows of stock"] += 1
        if (before is None and sight.known.old) or (before is not None and stock.version <= before.version):
            return
        for warehouse, shelf in stock.warehouses.items():
            if shelf.available >= 0:
                continue
            shelf_before = None if before is None else before.warehouses.get(warehouse)
            was = min(0, 0 if shelf_before is None else shelf_before.available)
            if shelf.available < was:
                since = 0 if before is None else before.batch
                self._judge(_Short(stock, warehouse, was, shelf.available, since, sight.row.at))

    def _judge(self, short: _Short, whole: bool = False) -> None:
        """Whether facts explain it; where some are under way whose size is not told yet, again at the end."""
        stock = short.stock
        needed = short.was - short.available
        told, open_ = self._facts.lowered(stock.sku, short.warehouse, short.since, stock.batch, whole)
        if told >= needed:
            return
        if told + open_ >= needed:
            self._excused.append(short)
            return
        what = (
            f"{short.available} {stock.sku} are available at {short.warehouse} at version {stock.version}, after"
            f" {short.was}: warehouses' facts since batch {short.since} lowered it by {told + open_} at most"
        )
        self.found(what, short.at, sku=stock.sku, warehouse=short.warehouse)

    def _moved(self, sight: MovementObservation) -> None:
        if sight.fresh and sight.movement.type == COUNTED:
            self._see_count(sight)
        if sight.dated and self._excused:
            self._judge_again(sight)

    def _judge_again(self, sight: MovementObservation) -> None:
        """What the movement may have explained so far, it now explains or not; nothing changed for the others. One
        that was refused has no lines, and may have been thought to explain any SKU of its warehouse."""
        warehouse, skus = sight.movement.warehouse, {line.sku for line in sight.movement.lines}
        excused, self._excused = self._excused, []
        for short in excused:
            if short.warehouse == warehouse and (not skus or short.stock.sku in skus):
                self._judge(short)
            else:
                self._excused.append(short)

    def _see_count(self, sight: MovementObservation) -> None:
        for line in sight.movement.lines:
            place = (line.sku, sight.movement.warehouse)
            self._counted[place] = max(self._counted.get(place, 0), sight.known.occurred_ms or 0)
        for order_id in list(self._standing):
            known = self._orders.order(order_id)
            if self._is_counted(known, sight.movement.batch):
                known.loose = True
                self._drop(order_id)

    def end(self) -> None:
        """More facts are told: what those under way excused is judged by what they were."""
        excused, self._excused = self._excused, []
        for short in excused:
            self._judge(short, whole=True)


class _Short(NamedTuple):
    """A row that shows less than nothing, and less than the row before, of batch `since`."""

    stock: StockView
    warehouse: str
    was: int
    available: int
    since: int
    at: int
