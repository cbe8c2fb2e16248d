"""The expected on_hand, summed from requests and responses; promise 3, once: `counted_twice`.

In: movements, shipments and returns with their batches, and the counts that may include them (rule 35). Out: for each
SKU and warehouse the value of on_hand, or an interval if the history does not show whether an event came before or
after a count.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from stocktide.loadtest.client.contract import MovedLineView, WarehouseStockView
from stocktide.loadtest.oracle.history import ReadStock
from stocktide.loadtest.oracle.inputs import parked_since
from stocktide.loadtest.oracle.movements import (
    TRANSFERRED,
    VOIDED,
    AppliedCount,
    KnownMovement,
    MovementObservation,
    MovementTracker,
)
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderTracker, RequestedMove
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# Rows truncate times to ms: within this distance the order of two events is unknown.
CLOCK_RESOLUTION_MS = 1
_NO_BATCH_LIMIT = 2**62


class Interval:
    """A number between two bounds."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low = 0
        self.high = 0

    def add(self, units: int, certain: bool = True) -> None:
        """Add units that moved for certain, or possibly."""
        if certain or units < 0:
            self.low += units
        if certain or units > 0:
            self.high += units

    def contains(self, number: int) -> bool:
        """Whether the number is within the bounds."""
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


class OnHandSums:
    """`on_hand` and `damaged` by (SKU, warehouse), summed. `warehouses_of`: the warehouses of a SKU. `unknown_skus`:
    SKUs with movements that this run did not request. `parked_since`: events since then may still wait."""

    def __init__(self, orders: OrderTracker, movements: MovementTracker, parked_since: int) -> None:
        self._parked_since = parked_since
        self.on_hand: dict[tuple[str, str], Interval] = defaultdict(Interval)
        self.damaged: dict[tuple[str, str], Interval] = defaultdict(Interval)
        self.unknown_skus: set[str] = set()
        self.warehouses_of: dict[str, set[str]] = defaultdict(set)
        self._counts = movements.counts
        self._movements = movements
        for movement in movements:
            self._add_movement(movement)
        for known in orders:
            self._add_order(known)
        for sku, warehouse in (*self.on_hand, *self.damaged):
            self.warehouses_of[sku].add(warehouse)

    def _add_movement(self, movement: KnownMovement) -> None:
        for line in movement.lines:
            self.on_hand[line.sku, movement.warehouse].add(line.change)
            self.damaged[line.sku, movement.warehouse].add(line.damaged)
            if movement.kind == TRANSFERRED:
                self._add_arrival(movement, line, 1)
            elif movement.kind == VOIDED and line.outcome == "voided":
                voided = self._movements.voided_by(movement)
                if voided is None or not voided.lines:
                    self.unknown_skus.add(line.sku)
                elif voided.kind == TRANSFERRED:
                    for each in voided.lines:
                        if each.sku == line.sku:
                            self._add_arrival(voided, each, -1)

    def _add_arrival(self, movement: KnownMovement, line: MovedLineView, sign: int) -> None:
        """Add the arrival of a transferred line, or (sign -1) take it away."""
        if line.outcome != "transferred":
            return
        if len(movement.destinations) != 1:
            self.unknown_skus.add(line.sku)
            return
        destination = movement.destinations[0]
        included = self._included_in_count(
            line.sku, destination, movement.occurred_ms, movement.batch - 1, movement.batch or _NO_BATCH_LIMIT
        )
        # If a count already included the departure, the units arrived: otherwise the transfer had no effect.
        arrived = True if line.change == 0 else None if included is None else not included
        if arrived is not False:
            self.on_hand[line.sku, destination].add(sign * line.quantity, certain=arrived is True)

    def _add_order(self, known: KnownOrder) -> None:
        content = known.content()
        for line in () if content is None else content.lines:
            for kind, units in ((SHIPPED, line.shipped), (RETURNED, line.returned)):
                if not units:
                    continue
                certain, possible = known.requested_units(kind, line.sku)
                if not known.moves or units > certain + possible:
                    self.unknown_skus.add(line.sku)
                moves = [move for move in known.moves or () if move.kind == kind]
                # While a return waits for its shipment, one that was rejected before may be the one that counted.
                waits = kind == RETURNED and any(move.certain and move.at > self._parked_since for move in moves)
                known_exactly = units == certain and not waits
                for move in moves:
                    applied = units >= certain + possible or (known_exactly and move.certain)
                    if applied or not known_exactly:
                        self._add_move(move, line.sku, applied)

    def _add_move(self, move: RequestedMove, sku: str, applied: bool) -> None:
        for line in move.lines:
            if line.sku != sku:
                continue
            if move.kind == RETURNED and line.condition == "damaged":
                self.damaged[sku, line.warehouse].add(line.quantity, applied)
                continue
            included = self._included_in_count(
                sku, line.warehouse, move.occurred_ms, move.batch, move.first_shown_batch or _NO_BATCH_LIMIT
            )
            if included is not True:
                units = line.quantity if move.kind == RETURNED else -line.quantity
                self.on_hand[sku, line.warehouse].add(units, applied and included is False)

    def _included_in_count(
        self, sku: str, warehouse: str, occurred_ms: int | None, after: int, until: int
    ) -> bool | None:
        """Whether a count already included an event of that time that was applied after one batch and up to another;
        None if unknown."""
        counts: list[AppliedCount] = self._counts.get((sku, warehouse), [])
        if not counts or occurred_ms is None:
            return None if counts else False
        possible = [
            count for count in counts if count.occurred_ms >= occurred_ms - CLOCK_RESOLUTION_MS and count.batch <= until
        ]
        if any(count.batch <= after and count.occurred_ms > occurred_ms + CLOCK_RESOLUTION_MS for count in possible):
            return True
        return None if possible else False


class CountedTwice(Checker):
    """Promise 3: an event counts once, however often it arrives.

    A movement has one outcome, and is voided once; an order has no more changes, shipments or returns than distinct
    events were requested; at rest on_hand and damaged of each SKU and warehouse are the sums over movements, shipments
    and returns.
    """

    name = "counted_twice"
    promise = 3

    def __init__(self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker, park_ms: int) -> None:
        super().__init__()
        self._park_ms = park_ms
        self._orders = orders
        self._movements = movements
        self._stocks = stocks
        # The void that reversed a movement, by warehouse and id.
        self._voids: dict[tuple[str, str], str] = {}
        movements.listeners.append(self._observe)

    def _observe(self, observation: MovementObservation) -> None:
        movement, known = observation.movement, observation.known
        self.looked["sights of movements"] += 1
        if movement.outcome == "voided" and movement.movement_id is not None:
            first = self._voids.setdefault((movement.warehouse, movement.movement_id), movement.id)
            if first != movement.id:
                what = f"{movement.movement_id} of {movement.warehouse} was voided by {first} and by {movement.id}"
                self.found(what, observation.record.at, warehouse=movement.warehouse, id=movement.movement_id)
        if observation.differs:
            what = (
                f"movement {movement.id} of {movement.warehouse} was {known.outcome} {_describe(known.lines)},"
                f" and also {movement.outcome} {_describe(movement.lines)}"
            )
            self.found(what, observation.record.at, warehouse=movement.warehouse, id=movement.id)

    def end(self) -> None:
        """Sum up, and compare."""
        for known in self._orders:
            if known.bodies and known.sequences:
                self._count_changes(known)
        if self.quiesced_at is None:
            return
        sums = OnHandSums(self._orders, self._movements, parked_since(self.quiesced_at, self._park_ms))
        for sku, read in self._stocks.final.items():
            if sku in sums.unknown_skus or self._stocks.existed_before_run(sku):
                self.remarks["SKUs that others moved, not summed"] += 1
            elif read.stock is not None:
                self._compare(sums, read)

    def _count_changes(self, known: KnownOrder) -> None:
        self.looked["orders"] += 1
        order_id = known.order_id
        # Each distinct event changes an order at most once; expiry and a superseding order are two more changes.
        most = len(known.events) // 2 + known.events_without_id + 2
        if known.sequence > most:
            most += known.fills_max()
        if known.may_be_rerouted:
            self.remarks["orders whose holds may move, their changes not counted"] += 1
        elif known.was_promised():
            self.remarks["orders with promised dates, which announcements move, their changes not counted"] += 1
        elif known.sequence > most:
            what = f"order {order_id} is at sequence {known.sequence}, and no more than {most} changes can have come"
            self.found(what, order_id=order_id)
        content = known.content()
        for line in () if content is None else content.lines:
            for kind, units in ((SHIPPED, line.shipped), (RETURNED, line.returned)):
                if units and units > (requested := sum(known.requested_units(kind, line.sku))):
                    what = f"{units} {line.sku} of order {order_id} are {kind[6:]}, and events told of {requested}"
                    self.found(what, order_id=order_id, sku=line.sku)

    def _compare(self, sums: OnHandSums, read: ReadStock) -> None:
        stock, nothing = read.stock, WarehouseStockView()
        assert stock is not None
        for where in sorted({*stock.warehouses, *sums.warehouses_of[read.sku]}):
            shelf = stock.warehouses.get(where, nothing)
            for counter, intervals in (("on_hand", sums.on_hand), ("damaged", sums.damaged)):
                interval = intervals[read.sku, where]
                number = int(getattr(shelf, counter))
                self.looked["sums"] += 1
                self.remarks["sums known exactly"] += interval.low == interval.high
                if not interval.contains(number):
                    what = f"{counter} of {read.sku} at {where} is {number}, and all that moved makes it {interval}"
                    self.found(what, read.at, sku=read.sku, warehouse=where)


def _describe(lines: tuple[Any, ...]) -> str:
    return ", ".join(f"{line.sku} {line.change:+} to {line.on_hand}" for line in lines) or "without lines"
