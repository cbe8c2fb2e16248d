"""Promise 4, every hold ends in exactly one of paid, cancelled, expired: `hold_ended_twice` and `hold_leaked`.

In: observations of orders, and reads of stock at rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.movements import MovementTracker
from stocktide.loadtest.oracle.orders import KnownOrder, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.pools import PoolBounds
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# How long after its deadline a hold may still be reserved: the expiry step runs about every second, and publication
# follows.
EXPIRY_GRACE_MS = 10_000

# The possible next states. A final state stays; later events (a late shipment, a return) change only the lines.
AWAITING = "awaiting_approval"
NEXT: Mapping[str, frozenset[str]] = {
    AWAITING: frozenset({AWAITING, "reserved", "paid", "shipped", "cancelled", "expired", "rejected"}),
    "reserved": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    "paid": frozenset({"paid", "shipped", "cancelled"}),
    "shipped": frozenset({"shipped"}),
    "cancelled": frozenset({"cancelled"}),
    "expired": frozenset({"expired"}),
    "rejected": frozenset({"rejected"}),
}


class HoldEndedTwice(Checker):
    """Promise 4: an order had two ends, such as paid after expired, or left an end; or a forced order held units that
    nobody was asked to approve."""

    name = "hold_ended_twice"
    promise = 4

    def __init__(self, tracker: OrderTracker) -> None:
        super().__init__()
        tracker.listeners.append(self._observe)

    def _observe(self, observation: OrderObservation) -> None:
        if not observation.is_new:
            return
        self.looked["changes of orders"] += 1
        known, order = observation.known, observation.order
        states, index = known.states, observation.index
        is_forced = known.placed_forced and not known.placed_plain
        if is_forced and order.sequence == 1 and order.state not in (AWAITING, "rejected"):
            what = f"order {known.order_id} was forced, and is {order.state} before anybody can have approved it"
            self.found(what, observation.record.at, order_id=known.order_id)
        if index > 0:
            self._check_step(observation, index - 1)
        if index + 1 < len(states):
            self._check_step(observation, index)

    def _check_step(self, observation: OrderObservation, index: int) -> None:
        known = observation.known
        before, after = known.states[index], known.states[index + 1]
        possible = NEXT.get(before, frozenset())
        if before == AWAITING and not known.may_be_approved:
            possible = frozenset({AWAITING, "rejected"})
        if before == "expired" and known.may_be_taken_again:
            possible |= NEXT["paid"]
        if after not in possible:
            first, second = known.sequences[index : index + 2]
            what = f"order {known.order_id} was {before} at sequence {first}, and {after} at sequence {second}"
            self.found(what, observation.record.at, order_id=known.order_id)


class HoldLeaked(Checker):
    """Promise 4: units are held for no order, or promised and not held, or in a pool that has ended.

    At rest `locked` of each SKU and warehouse is the sum over open unpaid orders, `committed` that over paid ones,
    `preordered` and `short` what is promised beyond the units on hand; and no hold outlives its deadline.
    """

    name = "hold_leaked"
    promise = 4

    def __init__(self, tracker: OrderTracker, stocks: StockTracker, movements: MovementTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._stocks = stocks
        self._pools = PoolBounds(movements)

    def on_request(self, request: PendingRequest) -> None:
        self._pools.on_request(request)

    def end(self) -> None:
        """Sum over all orders, and compare."""
        if self.quiesced_at is None:
            return
        held_units = HeldUnits()
        for known in self._tracker:
            held_units.add(known)
            due = known.expiring_ms
            if known.state == "reserved" and due is not None and due + EXPIRY_GRACE_MS < self.quiesced_at:
                over = (self.quiesced_at - due) / 1000
                what = f"order {known.order_id} is still reserved {over:.0f} s after its hold was over"
                self.found(what, self.quiesced_at, order_id=known.order_id)
        pools = self._pools.units_max(self.quiesced_at)
        for sku, read in self._stocks.final.items():
            self.looked["SKUs at rest"] += 1
            if read.stock is None:
                if held_units.total(sku):
                    self.found(f"SKU {sku} is unknown, and orders hold units of it", read.at, sku=sku)
                continue
            for counter, where, counted, held in held_units.differences(read.stock):
                place = f" at {where}" if where else ""
                what = f"{counter} of {sku}{place} is {counted}, and all orders together hold {held}"
                self.found(what, read.at, sku=sku, warehouse=where or None)
            if not self._stocks.existed_before_run(sku):
                self._check_pools(read.stock, read.at, pools)

    def _check_pools(self, stock: StockView, at: int, pools: dict[tuple[str, str], int | None]) -> None:
        for where, shelf in stock.warehouses.items():
            most = pools.get((stock.sku, where), 0)
            if most is not None and shelf.reserved > most:
                what = f"{shelf.reserved} {stock.sku} of {where} are in pools, where at most {most} can be"
                self.found(what, at, sku=stock.sku, warehouse=where)


class HeldUnits:
    """Units that orders hold, by (counter, SKU, warehouse); `preordered` and `short` have no warehouse."""

    def __init__(self) -> None:
        self._units: Counter[tuple[str, str, str]] = Counter()
        self._places: dict[str, set[str]] = {}

    def add(self, known: KnownOrder, sequence: int | None = None) -> None:
        """Add an order as it is at a sequence, or newest."""
        content = known.content(sequence)
        if content is None or content.state == "rejected":
            return
        counter = "locked" if content.state == "reserved" else "committed"
        for line in content.lines:
            if line.reserved or line.preordered or line.short:
                places = self._places.setdefault(line.sku, set())
                for warehouse, units in line.warehouses.items():
                    places.add(warehouse)
                    self._units[counter, line.sku, warehouse] += units
                self._units["preordered", line.sku, ""] += line.preordered
                self._units["short", line.sku, ""] += line.short

    def total(self, sku: str) -> int:
        """All units of a SKU that are held or promised."""
        places = self._places.get(sku, ())
        shelf = sum(self._units[counter, sku, where] for counter in ("locked", "committed") for where in places)
        return shelf + self._units["preordered", sku, ""] + self._units["short", sku, ""]

    def differences(self, stock: StockView) -> list[tuple[str, str, int, int]]:
        """(counter, warehouse, units of the stock, units of the orders) where the two differ."""
        sku = stock.sku
        pairs: list[tuple[str, str, int, int]] = [
            ("preordered", "", stock.preordered, self._units["preordered", sku, ""]),
            ("short", "", stock.short, self._units["short", sku, ""]),
        ]
        for where in sorted({*stock.warehouses, *self._places.get(sku, ())}):
            shelf = stock.warehouses.get(where)
            for counter in ("locked", "committed"):
                counted = 0 if shelf is None else int(getattr(shelf, counter))
                pairs.append((counter, where, counted, self._units[counter, sku, where]))
        return [pair for pair in pairs if pair[2] != pair[3]]
