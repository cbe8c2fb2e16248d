"""Promise 7, the log explains: `log_does_not_explain`.

In: rows of the public topics alone; at rest, reads to compare with. The requests of the run are not used: a number that
the topics do not explain is a violation.
"""

from __future__ import annotations

from collections import Counter

from msgspec import structs

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.dispatcher import Handlers
from stocktide.loadtest.oracle.history import PolicyPublished, ReadPolicy, UnreadableRow
from stocktide.loadtest.oracle.holds import HeldUnits
from stocktide.loadtest.oracle.movements import TRANSFERRED, VOIDED, MovementTracker
from stocktide.loadtest.oracle.on_hand import Interval
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.stocks import StockObservation, StockTracker
from stocktide.loadtest.oracle.verdict import Checker

Level = tuple[str, str | None]


class LogDoesNotExplain(Checker):
    """Promise 7: a number does not follow from the published records.

    A version of a SKU is published with one set of numbers. At rest the newest row of each SKU equals GET; locked,
    committed, preordered and short follow from the newest rows of `reservations`, on_hand from `adjustments` and the
    shipments and returns of orders; a policy in force is the newest row of its level; every movement that GET shows has
    its row.
    """

    name = "log_does_not_explain"
    promise = 7

    def __init__(self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker) -> None:
        super().__init__()
        self._orders = orders
        self._movements = movements
        self._stocks = stocks
        self._policies: dict[Level, PolicyPublished] = {}
        self._final_policies: dict[Level, ReadPolicy] = {}
        stocks.listeners.append(self._on_stock_row)

    def handlers(self) -> Handlers:
        return {
            PolicyPublished: self._on_policy_row,
            ReadPolicy: self._on_read_policy,
            UnreadableRow: self._on_unreadable,
        }

    def _on_stock_row(self, observation: StockObservation) -> None:
        stock, newest = observation.stock, observation.before
        if newest is not None and stock.version == newest.version and _without_batch(stock) != _without_batch(newest):
            what = f"version {stock.version} of {stock.sku} is {_describe(newest)}, and also {_describe(stock)}"
            self.found(what, observation.row.at, sku=stock.sku)

    def _on_policy_row(self, row: PolicyPublished) -> None:
        level = (row.policy.channel, row.policy.sku)
        known = self._policies.get(level)
        if known is None or row.policy.batch >= known.policy.batch:
            self._policies[level] = row

    def _on_read_policy(self, read: ReadPolicy) -> None:
        if self.quiesced_at is not None:
            self._final_policies[read.channel, read.sku] = read

    def _on_unreadable(self, row: UnreadableRow) -> None:
        self.found(f"a row of {row.topic} ({row.partition}/{row.offset}) cannot be read: {row.why}", row.at)

    def end(self) -> None:
        """Derive all numbers from the rows, and compare."""
        if self.quiesced_at is None:
            return
        held_units, on_hand = HeldUnits(), OnHandTotals(self._orders, self._movements)
        for known in self._orders:
            held_units.add(known, known.row_newest)
        for sku, read in self._stocks.final.items():
            if read.stock is not None:
                self.looked["SKUs at rest"] += 1
                self._compare(sku, read.stock, read.at, held_units, on_hand)
        for movement in self._movements:
            if movement.content is not None and not movement.batch:
                what = f"movement {movement.id} of {movement.warehouse} is told by GET, and has no row"
                self.found(what, warehouse=movement.warehouse, id=movement.id)
        for level, read_policy in self._final_policies.items():
            self.looked["policies at rest"] += 1
            row = self._policies.get(level)
            published = None if row is None else row.policy.policy
            if published != read_policy.own:
                where = "/".join(part for part in level if part)
                what = f"the policy of {where} is {read_policy.own}, and its newest row says {published}"
                self.found(what, read_policy.at, channel=level[0], sku=level[1])

    def _compare(self, sku: str, stock: StockView, at: int, held_units: HeldUnits, on_hand: OnHandTotals) -> None:
        known = self._stocks.skus.get(sku)
        if known is None:
            self.found(f"{sku} has no row of stock, and is {_describe(stock)}", at, sku=sku)
        elif _without_batch(known.newest) != _without_batch(stock):
            row = known.newest
            what = (
                f"{sku} is {_describe(stock)} at version {stock.version}, and its newest row says {_describe(row)} at"
                f" version {row.version}"
            )
            self.found(what, at, sku=sku)
        for counter, where, counted, held in held_units.differences(stock):
            place = f" at {where}" if where else ""
            what = f"{counter} of {sku}{place} is {counted}, and the rows of all orders together hold {held}"
            self.found(what, at, sku=sku, warehouse=where or None)
        if not self._stocks.existed_before_run(sku) and not (interval := on_hand.total(sku)).contains(stock.on_hand):
            what = f"on_hand of {sku} is {stock.on_hand}, and the rows of all movements and orders make it {interval}"
            self.found(what, at, sku=sku)


class OnHandTotals:
    """on_hand of each SKU over all warehouses, from rows alone.

    Rows do not show whether returned units were sellable, nor whether a count already included a shipment or the
    arrival of a transfer: the result is then an interval.
    """

    def __init__(self, orders: OrderTracker, movements: MovementTracker) -> None:
        self._changes: Counter[str] = Counter()
        self._shipped: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()
        self._transferred: dict[str, list[tuple[int, int]]] = {}
        self._counted = {sku for sku, _ in movements.counts}
        for movement in movements:
            for line in movement.lines if movement.batch else ():
                self._changes[line.sku] += line.change
                voided = movements.voided_by(movement) if movement.kind == VOIDED else None
                if voided is not None and voided.kind == TRANSFERRED and line.outcome == "voided":
                    self._transferred.setdefault(line.sku, []).append((-line.quantity, line.change))
                if movement.kind == TRANSFERRED and line.outcome == "transferred":
                    self._transferred.setdefault(line.sku, []).append((line.quantity, line.change))
        for known in orders:
            content = known.content(known.row_newest)
            for order_line in () if content is None else content.lines:
                self._shipped[order_line.sku] += order_line.shipped
                self._returned[order_line.sku] += order_line.returned

    def total(self, sku: str) -> Interval:
        """The interval of a SKU."""
        interval, certain = Interval(), sku not in self._counted
        interval.add(self._changes[sku])
        interval.add(-self._shipped[sku], certain)
        interval.add(self._returned[sku], certain=False)
        for quantity, change in self._transferred.get(sku, ()):
            interval.add(quantity, certain or change == 0)
        return interval


def _without_batch(stock: StockView) -> StockView:
    return structs.replace(stock, batch=0)


def _describe(stock: StockView) -> str:
    shelves = ", ".join(
        f"{where}: on_hand {shelf.on_hand}, committed {shelf.committed}, locked {shelf.locked}"
        for where, shelf in stock.warehouses.items()
    )
    return f"({shelves}; preordered {stock.preordered})"
