"""What on_hand must be, summed from what was asked and told; promise 3, once: `counted_twice`.

In: movements, shipments and returns with their batches, and the counts that may hold them already (rule 35). Out: per
SKU and warehouse the one number that on_hand can be, or the span of numbers where the history does not say whether
an event came before a count or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stocktide.loadtest.client.contract import WarehouseStockView
from stocktide.loadtest.oracle.history import ReadStock, RunQuiesced
from stocktide.loadtest.oracle.movements import (
    TRANSFERRED,
    AppliedCount,
    KnownMovement,
    MovementObservation,
    MovementTracker,
)
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderTracker, RequestedMove
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# A row tells times in ms, cut; an event may tell them finer: so near to each other nobody can say which came first.
CLOCK_RESOLUTION_MS = 1
_FOR_EVER = 2**62


class Interval:
    """A number that is known, or lies between two."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low = 0
        self.high = 0

    def add(self, units: int, surely: bool = True) -> None:
        """Units that came, or may have."""
        if surely or units < 0:
            self.low += units
        if surely or units > 0:
            self.high += units

    def holds(self, number: int) -> bool:
        """Whether the number may be this."""
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


class OnHandSums:
    """`on_hand` and `damaged` by (SKU, warehouse), summed; `places`: a SKU's warehouses. `vague`: SKUs that somebody
    else moved, unseen by us."""

    def __init__(self, orders: OrderTracker, movements: MovementTracker) -> None:
        self.on_hand: dict[tuple[str, str], Interval] = {}
        self.damaged: dict[tuple[str, str], Interval] = {}
        self.vague: set[str] = set()
        self.places: dict[str, set[str]] = {}
        self._counts = movements.counts
        for movement in movements:
            self._add_movement(movement)
        for known in orders:
            self._add_order(known)

    def _add_movement(self, movement: KnownMovement) -> None:
        for line in movement.lines:
            self._span(self.on_hand, line.sku, movement.warehouse).add(line.change)
            self._span(self.damaged, line.sku, movement.warehouse).add(line.damaged)
            if movement.kind != TRANSFERRED or line.outcome != "transferred":
                continue
            if len(movement.to) != 1:
                self.vague.add(line.sku)
                continue
            to = movement.to[0]
            held = self._held_by_count(
                line.sku, to, movement.occurred_ms, movement.batch - 1, movement.batch or _FOR_EVER
            )
            # Where nothing left, because a count held that already, something arrived: else it had changed nothing.
            arrived = True if line.change == 0 else None if held is None else not held
            if arrived is not False:
                self._span(self.on_hand, line.sku, to).add(line.quantity, surely=arrived is True)

    def _add_order(self, known: KnownOrder) -> None:
        content = known.content()
        for line in () if content is None else content.lines:
            for kind, units in ((SHIPPED, line.shipped), (RETURNED, line.returned)):
                if not units:
                    continue
                sure, maybe = known.moved(kind, line.sku)
                if not known.moves or units > sure + maybe:
                    self.vague.add(line.sku)
                for move in known.moves or ():
                    if move.kind == kind:
                        applied = units >= sure + maybe or (units == sure and move.sure)
                        if applied or units != sure or move.sure:
                            self._add_move(move, line.sku, applied)

    def _add_move(self, move: RequestedMove, sku: str, applied: bool) -> None:
        for line in move.lines:
            if line.sku != sku:
                continue
            if move.kind == RETURNED and line.condition == "damaged":
                self._span(self.damaged, sku, line.warehouse).add(line.quantity, applied)
                continue
            held = self._held_by_count(sku, line.warehouse, move.occurred_ms, move.batch, move.seen or _FOR_EVER)
            if held is not True:
                units = line.quantity if move.kind == RETURNED else -line.quantity
                self._span(self.on_hand, sku, line.warehouse).add(units, applied and held is False)

    def _held_by_count(self, sku: str, warehouse: str, occurred_ms: int | None, after: int, until: int) -> bool | None:
        """Whether what occurred then, and was applied after one batch and up to another, was in a count already."""
        counts: list[AppliedCount] = self._counts.get((sku, warehouse), [])
        if not counts or occurred_ms is None:
            return None if counts else False
        maybe = [
            count for count in counts if count.occurred_ms >= occurred_ms - CLOCK_RESOLUTION_MS and count.batch <= until
        ]
        if any(count.batch <= after and count.occurred_ms > occurred_ms + CLOCK_RESOLUTION_MS for count in maybe):
            return True
        return None if maybe else False

    def _span(self, spans: dict[tuple[str, str], Interval], sku: str, warehouse: str) -> Interval:
        span = spans.get((sku, warehouse))
        if span is None:
            span = spans[sku, warehouse] = Interval()
            self.places.setdefault(sku, set()).add(warehouse)
        return span


class CountedTwice(Checker):
    """Promise 3: an event counts once, however often it arrives.

    A movement is told with one outcome only; an order has no more changes, shipments or returns than distinct events
    were ever asked; at rest on_hand and damaged of each SKU and warehouse are the sum of what movements, shipments
    and returns did.
    """

    name = "counted_twice"
    promise = "An event counts once, however often it arrives."

    def __init__(self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker) -> None:
        super().__init__()
        self._orders = orders
        self._movements = movements
        self._stocks = stocks
        self._rests = False
        self._final: dict[str, ReadStock] = {}
        movements.listen(self._see)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """What is final."""
        return {RunQuiesced: lambda _: setattr(self, "_rests", True), ReadStock: self._read}

    def _read(self, read: ReadStock) -> None:
        if self._rests:
            self._final[read.sku] = read

    def _see(self, sight: MovementObservation) -> None:
        movement = sight.movement
        self.looked["sights of movements"] += 1
        if sight.differs:
            what = (
                f"movement {movement.id} of {movement.warehouse} was {sight.known.outcome} {_told(sight.known.lines)},"
                f" and also {movement.outcome} {_told(movement.lines)}"
            )
            self.found(what, sight.record.at, warehouse=movement.warehouse, id=movement.id)

    def end(self) -> None:
        """Sum up."""
        for known in self._orders:
            if known.bodies and known.sequences:
                self._count_changes(known)
        if not self._rests:
            return
        sums = OnHandSums(self._orders, self._movements)
        for sku, read in self._final.items():
            if sku in sums.vague or self._stocks.is_old(sku):
                self.remarks["SKUs that others moved, not summed"] += 1
            elif read.stock is not None:
                self._compare(sums, read)

    def _count_changes(self, known: KnownOrder) -> None:
        self.looked["orders"] += 1
        order_id = known.order_id
        # Each distinct event changes an order at most once; its expiry and another order in its place are two more.
        most = len(known.events) // 2 + known.unnamed + 2
        if known.sequence > most:
            what = f"order {order_id} is at sequence {known.sequence}, and no more than {most} changes can have come"
            self.found(what, order_id=order_id)
        content = known.content()
        for line in () if content is None else content.lines:
            for kind, units in ((SHIPPED, line.shipped), (RETURNED, line.returned)):
                if units and units > (asked := sum(known.moved(kind, line.sku))):
                    what = f"{units} {line.sku} of order {order_id} are {kind[6:]}, and events told of {asked}"
                    self.found(what, order_id=order_id, sku=line.sku)

    def _compare(self, sums: OnHandSums, read: ReadStock) -> None:
        stock, nothing = read.stock, WarehouseStockView()
        assert stock is not None
        for where in sorted({*stock.warehouses, *sums.places.get(read.sku, ())}):
            shelf = stock.warehouses.get(where, nothing)
            for counter, spans in (("on_hand", sums.on_hand), ("damaged", sums.damaged)):
                span = spans.get((read.sku, where)) or Interval()
                number = int(getattr(shelf, counter))
                self.looked["sums"] += 1
                self.remarks["sums known exactly"] += span.low == span.high
                if not span.holds(number):
                    what = f"{counter} of {read.sku} at {where} is {number}, and all that moved makes it {span}"
                    self.found(what, read.at, sku=read.sku, warehouse=where)


def _told(lines: tuple[Any, ...]) -> str:
    return ", ".join(f"{line.sku} {line.change:+} to {line.on_hand}" for line in lines) or "without lines"
