"""What came to a warehouse and what was taken from it, at most: the bounds by which overselling is seen.

In: the stream of a history. Out: for each place (a SKU in a warehouse) the units that can have come there by now, and
those that facts of warehouses can have taken from what is available in a span of batches. Never too little: what was
asked and is not told yet counts whole.
"""

from __future__ import annotations

from collections import Counter

from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.movements import (
    ADJUSTED,
    COUNTED,
    TRANSFERRED,
    KnownMovement,
    MovementObservation,
    MovementTracker,
)
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderTracker, RequestedMove

# A SKU in a warehouse.
Location = tuple[str, str]
# What a fact of unknown size may have lowered.
_ANY = 10**12


class ReceiptBounds:
    """Units that can have come to each place by now, at most: what was told, and what was asked and is not told yet."""

    def __init__(self, movements: MovementTracker) -> None:
        self._movements = movements
        self._units: Counter[Location] = Counter()
        # What a movement is counted as until it is told what it did; counts, whose gain nobody knows before.
        self._maybe: dict[tuple[str, str], list[tuple[Location, int]]] = {}
        self._counts: Counter[Location] = Counter()
        self._counting: dict[tuple[str, str], list[Location]] = {}
        # SKUs that somebody else transferred, nobody knows where to.
        self._vague: set[str] = set()
        movements.listen(self._see)

    def at_most(self, place: Location) -> int | None:
        """Units; None while a count is under way that may find any number, or where others moved some."""
        return None if self._counts[place] or place[0] in self._vague else self._units[place]

    def asked(self, ask: PendingRequest) -> None:
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

    def refused(self, ask: PendingRequest) -> None:
        """An event that was refused as none: what only it would have brought does not come."""
        event = ask.event
        if event is None or not event.id or not ask.kind.startswith("stock."):
            return
        known = self._movements.movements.get((event.warehouse, event.id))
        if known is not None and not known.bodies and known.content is None:
            self._forget((event.warehouse, event.id))

    def _see(self, sight: MovementObservation) -> None:
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


class DecreaseBounds:
    """What warehouses' facts can have taken from what is available, per SKU, warehouse and span of batches."""

    def __init__(self, orders: OrderTracker, movements: MovementTracker) -> None:
        self._orders = orders
        self._told: dict[Location, list[tuple[int, int]]] = {}
        self._open: dict[tuple[str, str], KnownMovement] = {}
        self._shipped: dict[Location, list[tuple[KnownOrder, RequestedMove]]] = {}
        self._movements = movements
        movements.listen(self._see)

    def asked(self, ask: PendingRequest) -> None:
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

    def lowered(self, sku: str, warehouse: str, after: int, until: int, whole: bool) -> tuple[int, int]:
        """Units by which facts of the batches after `after` and up to `until` lowered what is available, by what is
        told; and by which others, that may belong to those batches, can have lowered it besides. `whole`: all that
        there is was told, and what is not seen by now did not happen otherwise than it looks."""
        told = sum(units for batch, units in self._told.get((sku, warehouse), ()) if after < batch <= until)
        open_ = self._lowered_by_open(sku, warehouse) + self._lowered_by_shipping(sku, warehouse, after, until, whole)
        return told, open_

    def _lowered_by_open(self, sku: str, warehouse: str) -> int:
        units = 0
        for movement in self._open.values():
            if movement.warehouse == warehouse:
                for line in movement.asked:
                    if line.sku == sku:
                        units += _ANY if movement.kind == COUNTED else abs(line.quantity)
        return units

    def _lowered_by_shipping(self, sku: str, warehouse: str, after: int, until: int, whole: bool) -> int:
        units = 0
        for known, move in self._shipped.get((sku, warehouse), ()):
            if move.batch >= until or (move.seen and move.seen <= after):
                continue
            # A row of the stock may come before that of the order: whether the hold was over by then, nobody knows yet.
            if (not move.seen and not whole) or not _from_own_hold(known, sku):
                units += sum(line.quantity for line in move.lines if (line.sku, line.warehouse) == (sku, warehouse))
        return units

    def _see(self, sight: MovementObservation) -> None:
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
