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

from loadtest.oracle.history import Record, Told
from loadtest.oracle.movements import ADJUSTED, COUNTED, TRANSFERRED, KnownMovement, MovementBook, MovementSight
from loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, Move, OrderBook, Sight
from loadtest.oracle.stocks import StockBook, StockSight
from loadtest.oracle.stream import Ask
from loadtest.oracle.verdict import Checker

# By so much the clocks of ledger and tester may differ before an expiry is taken for one that has not come yet.
CLOCK_SKEW_MS = 1_000
_HOLDING = frozenset({"reserved", "paid", "shipped"})
# What a fact of unknown size may have lowered.
_ANY = 10**12


# A SKU in a warehouse.
Place = tuple[str, str]


class Oversold(Checker):
    """Promise 1: units were promised that were not there (rules 6, 7; only a warehouse's fact makes a number
    negative)."""

    name = "oversold"
    promise = "An order never takes a unit that is not there."

    def __init__(
        self, orders: OrderBook, movements: MovementBook, stocks: StockBook, clock_skew_ms: int = CLOCK_SKEW_MS
    ) -> None:
        super().__init__()
        self._orders = orders
        self._given = Given(movements)
        self._facts = Facts(orders, movements)
        self._stocks = stocks
        self._clock_skew_ms = clock_skew_ms
        # Promises that surely stand, by (SKU, warehouse), and what of them is each order's.
        self._promised: Counter[Place] = Counter()
        self._standing: dict[str, tuple[tuple[Place, int], ...]] = {}
        self._expiring: list[tuple[int, str]] = []
        self._told_of: set[Place] = set()
        orders.listen(self._see)
        stocks.listen(self._row)

    def asked(self, ask: Ask) -> None:
        """What an ask may bring or take, it may from now on."""
        self._given.asked(ask)
        self._facts.asked(ask)
        event = ask.event
        if event is None or not ask.kind.startswith("order."):
            return
        for order_id in (event.order_id, event.supersedes):
            if order_id and (known := self._orders.orders.get(order_id)) is not None:
                # What is shipped from elsewhere gives back what was held here.
                known.loose = known.loose or (ask.kind == SHIPPED and not self._is_promised(known))
                if known.loose:
                    self._drop(order_id)

    def told(self, ask: Ask, told: Told) -> None:
        """What was refused brings nothing."""
        if told.status >= 400:
            self._given.refused(ask)

    def _see(self, sight: Sight) -> None:
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

    def _promise(self, order_id: str, units: tuple[tuple[Place, int], ...], record: Record) -> None:
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
        shipped: Counter[Place] = Counter()
        for move in known.moves or ():
            if move.kind == SHIPPED:
                for line in move.lines:
                    shipped[line.sku, line.warehouse] += line.quantity
        return shipped <= Counter(dict(self._standing.get(known.order_id, ())))

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

    def _row(self, sight: StockSight) -> None:
        stock, before = sight.stock, sight.before
        self.looked["rows of stock"] += 1
        if (before is None and sight.known.old) or (before is not None and stock.version <= before.version):
            return
        for warehouse, shelf in stock.warehouses.items():
            if shelf.available >= 0:
                continue
            shelf_before = None if before is None else before.warehouses.get(warehouse)
            was = min(0, 0 if shelf_before is None else shelf_before.available)
            short = was - shelf.available
            since = 0 if before is None else before.batch
            if short <= 0 or short <= (lowered := self._facts.lowered(stock.sku, warehouse, since, stock.batch)):
                continue
            what = (
                f"{shelf.available} {stock.sku} are available at {warehouse} at version {stock.version}, after {was}:"
                f" warehouses' facts since batch {since} lowered it by {lowered} at most"
            )
            self.found(what, sight.row.at, sku=stock.sku, warehouse=warehouse)


class Given:
    """Units that can have come to each place by now, at most: what was told, and what was asked and is not told yet."""

    def __init__(self, movements: MovementBook) -> None:
        self._movements = movements
        self._units: Counter[Place] = Counter()
        # What a movement is counted as until it is told what it did; counts, whose gain nobody knows before.
        self._maybe: dict[tuple[str, str], list[tuple[Place, int]]] = {}
        self._counts: Counter[Place] = Counter()
        self._counting: dict[tuple[str, str], list[Place]] = {}
        # SKUs that somebody else transferred, nobody knows where to.
        self._vague: set[str] = set()
        movements.listen(self._see)

    def at_most(self, place: Place) -> int | None:
        """Units; None while a count is under way that may find any number, or where others moved some."""
        return None if self._counts[place] or place[0] in self._vague else self._units[place]

    def asked(self, ask: Ask) -> None:
        """An event that may bring units."""
        event = ask.event
        if event is None or not ask.new:
            return
        if ask.kind == RETURNED:
            for line in event.lines:
                self._units[line.sku, line.warehouse] += max(0, line.quantity)
            return
        key = (event.warehouse, event.id or "")
        known = self._movements.movements.get(key)
        if known is None or known.content is not None or not ask.kind.startswith("stock."):
            return
        if ask.kind == COUNTED:
            places = [(line.sku, event.warehouse) for line in event.lines]
            self._counting.setdefault(key, []).extend(places)
            self._counts.update(places)
            return
        where = event.to_warehouse or event.warehouse
        for line in event.lines:
            if line.quantity > 0:
                self._maybe.setdefault(key, []).append(((line.sku, where), line.quantity))
                self._units[line.sku, where] += line.quantity

    def refused(self, ask: Ask) -> None:
        """An event that was refused as none: what only it would have brought does not come."""
        event = ask.event
        if event is None or not event.id or not ask.kind.startswith("stock."):
            return
        known = self._movements.movements.get((event.warehouse, event.id))
        if known is not None and not known.bodies and known.content is None:
            self._forget((event.warehouse, event.id))

    def _see(self, sight: MovementSight) -> None:
        if not sight.fresh:
            return
        movement = sight.movement
        self._forget((movement.warehouse, movement.id))
        for line in movement.lines:
            self._units[line.sku, movement.warehouse] += max(0, line.change)
            if movement.type == TRANSFERRED:
                for where in sight.known.to:
                    self._units[line.sku, where] += line.quantity
                if not sight.known.to:
                    self._vague.add(line.sku)

    def _forget(self, key: tuple[str, str]) -> None:
        for place, units in self._maybe.pop(key, ()):
            self._units[place] -= units
        for place in self._counting.pop(key, ()):
            self._counts[place] -= 1


class Facts:
    """What warehouses' facts can have taken from what is available, per SKU, warehouse and span of batches."""

    def __init__(self, orders: OrderBook, movements: MovementBook) -> None:
        self._orders = orders
        self._told: dict[Place, list[tuple[int, int]]] = {}
        self._open: dict[tuple[str, str], KnownMovement] = {}
        self._shipped: dict[Place, list[tuple[KnownOrder, Move]]] = {}
        self._movements = movements
        movements.listen(self._see)

    def asked(self, ask: Ask) -> None:
        """A fact may be on its way."""
        event = ask.event
        if event is None:
            return
        if ask.kind == SHIPPED:
            known = self._orders.order(event.order_id)
            if ask.new and known.moves:
                for place in {(line.sku, line.warehouse) for line in event.lines}:
                    self._shipped.setdefault(place, []).append((known, known.moves[-1]))
        elif ask.kind in (COUNTED, TRANSFERRED, ADJUSTED) and event.id is not None:
            key = (event.warehouse, event.id)
            movement = self._movements.movements.get(key)
            if movement is not None and movement.content is None:
                self._open[key] = movement

    def lowered(self, sku: str, warehouse: str, after: int, until: int) -> int:
        """Units by which facts of the batches after `after` and up to `until` can have lowered what is available."""
        told = sum(units for batch, units in self._told.get((sku, warehouse), ()) if after < batch <= until)
        return told + self._lowered_by_open(sku, warehouse) + self._lowered_by_shipping(sku, warehouse, after, until)

    def _lowered_by_open(self, sku: str, warehouse: str) -> int:
        units = 0
        for movement in self._open.values():
            if movement.warehouse == warehouse:
                for line in movement.asked:
                    if line.sku == sku:
                        units += _ANY if movement.kind == COUNTED else abs(line.quantity)
        return units

    def _lowered_by_shipping(self, sku: str, warehouse: str, after: int, until: int) -> int:
        units = 0
        for known, move in self._shipped.get((sku, warehouse), ()):
            if move.batch < until and (not move.seen or move.seen > after) and not _from_own_hold(known, sku):
                units += sum(line.quantity for line in move.lines if (line.sku, line.warehouse) == (sku, warehouse))
        return units

    def _see(self, sight: MovementSight) -> None:
        movement = sight.movement
        self._open.pop((movement.warehouse, movement.id), None)
        if sight.dated:
            for line in movement.lines:
                if line.change < 0:
                    lowered = self._told.setdefault((line.sku, movement.warehouse), [])
                    lowered.append((movement.batch, -line.change))


def _from_own_hold(known: KnownOrder, sku: str) -> bool:
    """Whether all that was shipped of an order's SKU left the warehouses that held it, and no more than they held."""
    if known.loose or any(state in ("cancelled", "expired", "rejected") for state in known.states):
        return False
    held: Counter[str] = Counter()
    for sequence in known.sequences:
        content = known.content(sequence)
        for line in () if content is None else content.lines:
            if line.sku == sku:
                held |= Counter(line.warehouses)
    shipped: Counter[str] = Counter()
    for move in known.moves or ():
        if move.kind == SHIPPED:
            for shipped_line in move.lines:
                if shipped_line.sku == sku:
                    shipped[shipped_line.warehouse] += shipped_line.quantity
    return shipped <= held
