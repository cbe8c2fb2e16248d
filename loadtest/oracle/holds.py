"""Promise 4, every hold ends in exactly one of paid, cancelled, expired: `hold_ended_twice` and `hold_leaked`.

In: sights of orders, and what GET says of stock at rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.history import ReadStock, RunQuiesced
from stocktide.loadtest.oracle.orders import KnownOrder, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.verdict import Checker

# How long after its time a hold may still be seen as held: the expiry step runs every second or so, and publication
# follows. At rest all of that is over.
EXPIRY_GRACE_MS = 10_000

# Where an order may go from each state. A final state stays; what happens then (a late shipment, a return) shows in
# the lines.
NEXT: Mapping[str, frozenset[str]] = {
    "reserved": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    "paid": frozenset({"paid", "shipped", "cancelled"}),
    "shipped": frozenset({"shipped"}),
    "cancelled": frozenset({"cancelled"}),
    "expired": frozenset({"expired"}),
    "rejected": frozenset({"rejected"}),
}


class HoldEndedTwice(Checker):
    """Promise 4: an order that went through two ends, such as paid after expired, or came back from one."""

    name = "hold_ended_twice"
    promise = "Every hold ends in exactly one of paid, cancelled, expired."

    def __init__(self, book: OrderTracker) -> None:
        super().__init__()
        book.listen(self._see)

    def _see(self, sight: OrderObservation) -> None:
        if not sight.fresh:
            return
        self.looked["changes of orders"] += 1
        states, index = sight.known.states, sight.index
        if index > 0:
            self._step(sight, index - 1)
        if index + 1 < len(states):
            self._step(sight, index)

    def _step(self, sight: OrderObservation, index: int) -> None:
        known = sight.known
        before, after = known.states[index], known.states[index + 1]
        if after not in NEXT.get(before, ()):
            first, second = known.sequences[index : index + 2]
            what = f"order {known.order_id} was {before} at sequence {first}, and {after} at sequence {second}"
            self.found(what, sight.record.at, order_id=known.order_id)


class HoldLeaked(Checker):
    """Promise 4: units that are held for nobody, or promised and not held.

    At rest `locked` of each SKU and warehouse is what open unpaid orders hold there, `committed` what paid ones still
    do, `preordered` what is promised beyond the shelf; and no hold outlives its time.
    """

    name = "hold_leaked"
    promise = "A hold's units go back in the step in which it ends."

    def __init__(self, book: OrderTracker) -> None:
        super().__init__()
        self._book = book
        self._rested_at: int | None = None
        self._final: dict[str, ReadStock] = {}

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """What is final."""
        return {RunQuiesced: lambda rested: setattr(self, "_rested_at", rested.at), ReadStock: self._read}

    def _read(self, read: ReadStock) -> None:
        if self._rested_at is not None:
            self._final[read.sku] = read

    def end(self) -> None:
        """Add up all orders, and compare."""
        if self._rested_at is None:
            return
        held = HeldUnits()
        for known in self._book:
            held.add(known)
            due = known.expiring_ms
            if known.state == "reserved" and due is not None and due + EXPIRY_GRACE_MS < self._rested_at:
                over = (self._rested_at - due) / 1000
                what = f"order {known.order_id} is still reserved {over:.0f} s after its hold was over"
                self.found(what, self._rested_at, order_id=known.order_id)
        for sku, read in self._final.items():
            self.looked["SKUs at rest"] += 1
            if read.stock is None:
                if held.of(sku):
                    self.found(f"SKU {sku} is unknown, and orders hold units of it", read.at, sku=sku)
                continue
            for counter, where, has, holds in held.differences(read.stock):
                place = f" at {where}" if where else ""
                what = f"{counter} of {sku}{place} is {has}, and all orders together hold {holds}"
                self.found(what, read.at, sku=sku, warehouse=where or None)


class HeldUnits:
    """Units that orders hold, by (counter, SKU, warehouse); `preordered` has no warehouse."""

    def __init__(self) -> None:
        self._units: Counter[tuple[str, str, str]] = Counter()
        self._places: dict[str, set[str]] = {}

    def add(self, known: KnownOrder, sequence: int | None = None) -> None:
        """Count an order as it is at a sequence, or newest."""
        content = known.content(sequence)
        if content is None or content.state == "rejected":
            return
        counter = "locked" if content.state == "reserved" else "committed"
        for line in content.lines:
            if line.reserved or line.preordered:
                places = self._places.setdefault(line.sku, set())
                for warehouse, units in line.warehouses.items():
                    places.add(warehouse)
                    self._units[counter, line.sku, warehouse] += units
                self._units["preordered", line.sku, ""] += line.preordered

    def of(self, sku: str) -> int:
        """All units of a SKU that are held or promised."""
        places = self._places.get(sku, ())
        shelf = sum(self._units[counter, sku, where] for counter in ("locked", "committed") for where in places)
        return shelf + self._units["preordered", sku, ""]

    def differences(self, stock: StockView) -> list[tuple[str, str, int, int]]:
        """(counter, warehouse, what the stock says, what orders hold), where they are not the same."""
        sku = stock.sku
        pairs: list[tuple[str, str, int, int]] = [
            ("preordered", "", stock.preordered, self._units["preordered", sku, ""])
        ]
        for where in sorted({*stock.warehouses, *self._places.get(sku, ())}):
            shelf = stock.warehouses.get(where)
            for counter in ("locked", "committed"):
                has = 0 if shelf is None else int(getattr(shelf, counter))
                pairs.append((counter, where, has, self._units[counter, sku, where]))
        return [pair for pair in pairs if pair[2] != pair[3]]
