"""Promise 7, the log explains: `log_does_not_explain`.

In: rows of the public topics alone; at rest, GET to compare with. Nothing that the tester itself asked is used here:
what the topics do not say is not explained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.history import PolicyPublished, ReadPolicy, ReadStock, RunQuiesced, UnreadableRow
from stocktide.loadtest.oracle.holds import HeldUnits
from stocktide.loadtest.oracle.movements import TRANSFERRED, MovementTracker
from stocktide.loadtest.oracle.on_hand import Interval
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.stocks import StockObservation, StockTracker
from stocktide.loadtest.oracle.verdict import Checker

Level = tuple[str, str | None]


class LogDoesNotExplain(Checker):
    """Promise 7: a number that the published records do not lead to.

    A version of a SKU is published with one set of numbers. At rest the newest row of each SKU is what GET says;
    locked, committed and preordered follow from the newest rows of `reservations`, on_hand from `adjustments` and what
    orders shipped and took back; a policy in force is the newest row of its level; every movement that GET tells of
    has its row.
    """

    name = "log_does_not_explain"
    promise = "Every number follows from the published records alone."

    def __init__(self, orders: OrderTracker, movements: MovementTracker, stocks: StockTracker) -> None:
        super().__init__()
        self._orders = orders
        self._movements = movements
        self._stocks = stocks
        self._rests = False
        self._final: dict[str, ReadStock] = {}
        self._policies: dict[Level, PolicyPublished] = {}
        self._final_policies: dict[Level, ReadPolicy] = {}
        stocks.listen(self._row)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """What is final, policies, and rows that nobody can read."""
        return {
            RunQuiesced: lambda _: setattr(self, "_rests", True),
            ReadStock: self._read,
            PolicyPublished: self._policy,
            ReadPolicy: self._read_policy,
            UnreadableRow: self._unreadable,
        }

    def _row(self, sight: StockObservation) -> None:
        stock, newest = sight.stock, sight.before
        if newest is not None and stock.version == newest.version and _bare(stock) != _bare(newest):
            what = f"version {stock.version} of {stock.sku} is {_numbers(newest)}, and also {_numbers(stock)}"
            self.found(what, sight.row.at, sku=stock.sku)

    def _read(self, read: ReadStock) -> None:
        if self._rests:
            self._final[read.sku] = read

    def _policy(self, row: PolicyPublished) -> None:
        level = (row.policy.channel, row.policy.sku)
        known = self._policies.get(level)
        if known is None or row.policy.batch >= known.policy.batch:
            self._policies[level] = row

    def _read_policy(self, read: ReadPolicy) -> None:
        if self._rests:
            self._final_policies[read.channel, read.sku] = read

    def _unreadable(self, row: UnreadableRow) -> None:
        self.found(f"a row of {row.topic} ({row.partition}/{row.offset}) cannot be read: {row.why}", row.at)

    def end(self) -> None:
        """Follow the rows to their end, and compare."""
        if not self._rests:
            return
        held, on_hand = HeldUnits(), OnHandTotals(self._orders, self._movements)
        for known in self._orders:
            held.add(known, known.row_newest)
        for sku, read in self._final.items():
            if read.stock is not None:
                self.looked["SKUs at rest"] += 1
                self._compare(sku, read.stock, read.at, held, on_hand)
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

    def _compare(self, sku: str, stock: StockView, at: int, held: HeldUnits, on_hand: OnHandTotals) -> None:
        known = self._stocks.skus.get(sku)
        if known is None:
            self.found(f"{sku} has no row of stock, and is {_numbers(stock)}", at, sku=sku)
        elif _bare(known.newest) != _bare(stock):
            row = known.newest
            what = (
                f"{sku} is {_numbers(stock)} at version {stock.version}, and its newest row says {_numbers(row)} at"
                f" version {row.version}"
            )
            self.found(what, at, sku=sku)
        for counter, where, has, holds in held.differences(stock):
            place = f" at {where}" if where else ""
            what = f"{counter} of {sku}{place} is {has}, and the rows of all orders together hold {holds}"
            self.found(what, at, sku=sku, warehouse=where or None)
        if not self._stocks.is_old(sku) and not (span := on_hand.of(sku)).holds(stock.on_hand):
            what = f"on_hand of {sku} is {stock.on_hand}, and the rows of all movements and orders make it {span}"
            self.found(what, at, sku=sku)


class OnHandTotals:
    """on_hand of each SKU over all warehouses, from rows alone.

    Rows do not say whether units that came back were fit for sale, nor whether a count held a shipment or a transfer's
    arrival already: where they leave it open, it is a span.
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
                if movement.kind == TRANSFERRED and line.outcome == "transferred":
                    self._transferred.setdefault(line.sku, []).append((line.quantity, line.change))
        for known in orders:
            content = known.content(known.row_newest)
            for order_line in () if content is None else content.lines:
                self._shipped[order_line.sku] += order_line.shipped
                self._returned[order_line.sku] += order_line.returned

    def of(self, sku: str) -> Interval:
        """The span of a SKU."""
        span, exact = Interval(), sku not in self._counted
        span.add(self._changes[sku])
        span.add(-self._shipped[sku], exact)
        span.add(self._returned[sku], surely=False)
        for quantity, change in self._transferred.get(sku, ()):
            span.add(quantity, exact or change == 0)
        return span


def _bare(stock: StockView) -> StockView:
    return structs.replace(stock, batch=0)


def _numbers(stock: StockView) -> str:
    shelves = ", ".join(
        f"{where}: on_hand {shelf.on_hand}, committed {shelf.committed}, locked {shelf.locked}"
        for where, shelf in stock.warehouses.items()
    )
    return f"({shelves}; preordered {stock.preordered})"
