"""Bounds of the units that came to a warehouse and of those that left it, for the detection of overselling.

In: the records of a history. Out: for each location (a SKU in a warehouse) the units that can have arrived by now, and
the units by which warehouse events can have lowered availability within a range of batches. The bounds are never too
low: a request whose effect is unknown counts in full.
"""

from __future__ import annotations

from collections import Counter

from msgspec import structs

from stocktide.loadtest.oracle.dispatcher import PendingRequest, SentLine
from stocktide.loadtest.oracle.movements import (
    ADJUSTED,
    COUNTED,
    EXPECTED,
    TRANSFERRED,
    VOIDED,
    KnownMovement,
    MovementObservation,
    MovementTracker,
)
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderTracker, RequestedMove

# A SKU in a warehouse.
Location = tuple[str, str]
# The possible decrease by an event of unknown size.
_UNBOUNDED = 10**12


class ReceiptBounds:
    """Units that can have arrived at each location by now, at most: known effects, and requests whose effect is
    unknown."""

    def __init__(self, movements: MovementTracker) -> None:
        self._movements = movements
        self._units: Counter[Location] = Counter()
        # The bounds of a movement until its effect is known; counts have none.
        self._possible: dict[tuple[str, str], list[tuple[Location, int]]] = {}
        self._open_counts: Counter[Location] = Counter()
        self._counting: dict[tuple[str, str], list[Location]] = {}
        # SKUs with a transfer that this run did not request: the destination is unknown.
        self._unbounded_skus: set[str] = set()
        movements.listeners.append(self._observe)

    def upper_bound(self, place: Location) -> int | None:
        """Units; None during a count, which may find any number, or after a transfer that this run did not request."""
        return None if self._open_counts[place] or place[0] in self._unbounded_skus else self._units[place]

    def on_request(self, request: PendingRequest) -> None:
        """Add an event that may bring units."""
        event = request.event
        if not request.is_new:
            return
        if request.kind == RETURNED:
            for line in event.lines:
                self._units[line.sku, line.warehouse] += max(0, line.quantity)
            return
        key = (event.warehouse, event.id or "")
        known = self._movements.movements.get(key)
        if known is None or known.content is not None or not request.kind.startswith("stock."):
            return
        if request.kind == EXPECTED:
            return
        if request.kind == COUNTED:
            places = [(line.sku, event.warehouse) for line in event.lines]
            self._counting.setdefault(key, []).extend(places)
            self._open_counts.update(places)
            return
        warehouse, lines = event.to_warehouse or event.warehouse, event.lines
        if request.kind == VOIDED and (voided := self._movements.voided_by(known)) is not None:
            # It brings back what an adjustment took, or a transfer.
            lines = voided.sent_lines or tuple(SentLine(line.sku, abs(line.quantity)) for line in voided.lines)
            lines = tuple(structs.replace(line, quantity=abs(line.quantity)) for line in lines)
        for line in lines:
            if line.quantity > 0:
                self._possible.setdefault(key, []).append(((line.sku, warehouse), line.quantity))
                self._units[line.sku, warehouse] += line.quantity

    def on_rejected(self, request: PendingRequest) -> None:
        """Remove a rejected event."""
        event = request.event
        if not event.id or not request.kind.startswith("stock."):
            return
        known = self._movements.movements.get((event.warehouse, event.id))
        if known is not None and not known.bodies and known.content is None:
            self._forget((event.warehouse, event.id))

    def _observe(self, observation: MovementObservation) -> None:
        if not observation.is_new:
            return
        movement = observation.movement
        self._forget((movement.warehouse, movement.id))
        for line in movement.lines:
            self._units[line.sku, movement.warehouse] += max(0, line.change)
            if movement.type == TRANSFERRED:
                for warehouse in observation.known.destinations:
                    self._units[line.sku, warehouse] += line.quantity
                if not observation.known.destinations:
                    self._unbounded_skus.add(line.sku)

    def _forget(self, key: tuple[str, str]) -> None:
        for place, units in self._possible.pop(key, ()):
            self._units[place] -= units
        for place in self._counting.pop(key, ()):
            self._open_counts[place] -= 1


class DecreaseBounds:
    """Units by which warehouse events can have lowered availability, by SKU, warehouse and range of batches."""

    def __init__(self, orders: OrderTracker, movements: MovementTracker) -> None:
        self._orders = orders
        self._known_decreases: dict[Location, list[tuple[int, int]]] = {}
        self._open_movements: dict[tuple[str, str], KnownMovement] = {}
        self._shipped: dict[Location, list[tuple[KnownOrder, RequestedMove]]] = {}
        self._movements = movements
        movements.listeners.append(self._observe)

    def on_request(self, request: PendingRequest) -> None:
        """Add an event that may lower availability."""
        event = request.event
        if request.kind == SHIPPED:
            known = self._orders.order(event.order_id)
            if request.is_new and known.moves:
                for place in {(line.sku, line.warehouse) for line in event.lines}:
                    self._shipped.setdefault(place, []).append((known, known.moves[-1]))
        elif request.kind in (COUNTED, TRANSFERRED, ADJUSTED, VOIDED) and event.id is not None:
            key = (event.warehouse, event.id)
            movement = self._movements.movements.get(key)
            if movement is not None and movement.content is None:
                self._open_movements[key] = movement

    def decrease(self, sku: str, warehouse: str, after: int, until: int, complete: bool) -> tuple[int, int]:
        """Units by which events of the batches after `after` and up to `until` lowered availability, and those by which
        events of unknown batch can have lowered it besides. `complete`: the history is over, so what was not observed
        did not happen."""
        known_units = sum(
            units for batch, units in self._known_decreases.get((sku, warehouse), ()) if after < batch <= until
        )
        possible_units = self._decrease_by_open(sku, warehouse) + self._decrease_by_shipments(
            sku, warehouse, after, until, complete
        )
        return known_units, possible_units

    def _decrease_by_open(self, sku: str, warehouse: str) -> int:
        units = 0
        for movement in self._open_movements.values():
            if movement.kind == VOIDED:
                units += _UNBOUNDED
            elif movement.warehouse == warehouse:
                for line in movement.sent_lines:
                    if line.sku == sku:
                        units += _UNBOUNDED if movement.kind == COUNTED else abs(line.quantity)
        return units

    def _decrease_by_shipments(self, sku: str, warehouse: str, after: int, until: int, complete: bool) -> int:
        units = 0
        for known, move in self._shipped.get((sku, warehouse), ()):
            if move.batch >= until or (move.first_shown_batch and move.first_shown_batch <= after):
                continue
            # The row of the stock may precede that of the order: it is then unknown whether the hold had ended.
            if (not move.first_shown_batch and not complete) or not _is_from_own_hold(known, sku):
                units += sum(line.quantity for line in move.lines if (line.sku, line.warehouse) == (sku, warehouse))
        return units

    def _observe(self, observation: MovementObservation) -> None:
        movement = observation.movement
        self._open_movements.pop((movement.warehouse, movement.id), None)
        if observation.has_new_batch:
            for line in movement.lines:
                if line.change < 0:
                    decrease = self._known_decreases.setdefault((line.sku, movement.warehouse), [])
                    decrease.append((movement.batch, -line.change))
                voided = self._movements.voided_by(observation.known) if movement.type == VOIDED else None
                for destination in () if voided is None else voided.destinations:
                    decrease = self._known_decreases.setdefault((line.sku, destination), [])
                    decrease.append((movement.batch, line.quantity))


def _is_from_own_hold(known: KnownOrder, sku: str) -> bool:
    """Whether all shipments of an order's SKU left the warehouses that held it, and no more than they held. A state
    that no record shows may be an expiry, after which the order was taken again elsewhere."""
    if (
        known.may_have_released
        or known.may_be_rerouted
        or known.has_hidden_states()
        or any(state in ("cancelled", "expired", "rejected") for state in known.states)
    ):
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
