"""What is known of every SKU, folded from rows of `stock`.

In: the stream of a history. Out: the newest row of each SKU, and each row to whoever listens.
A row's version names one state of the SKU; rows may come again, and an older one may follow a newer one after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.history import StockPublished


class KnownStock:
    """One SKU: its newest row, and the version of the last one that came."""

    __slots__ = ("last", "newest", "old")

    def __init__(self, row: StockView, old: bool) -> None:
        self.newest = row
        self.last = row.version
        # It was there before the run asked for anything: where its units came from may be forgotten.
        self.old = old


class StockObservation(NamedTuple):
    """A row of a SKU: what was newest before it, None where it is the first."""

    known: KnownStock
    stock: StockView
    before: StockView | None
    row: StockPublished


class StockTracker:
    """All SKUs."""

    def __init__(self) -> None:
        self.skus: dict[str, KnownStock] = {}
        self._listeners: list[Callable[[StockObservation], None]] = []
        self._asking = False

    def listen(self, listener: Callable[[StockObservation], None]) -> None:
        """Tell `listener` of every row."""
        self._listeners.append(listener)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Rows of `stock`."""
        return {StockPublished: self._row}

    def asked(self, ask: PendingRequest) -> None:
        """The run asks for something."""
        self._asking = True

    def is_old(self, sku: str) -> bool:
        """Whether a SKU was there before the run."""
        known = self.skus.get(sku)
        return known is not None and known.old

    def _row(self, row: StockPublished) -> None:
        stock, known = row.stock, self.skus.get(row.stock.sku)
        if known is None:
            before = None
            known = self.skus[stock.sku] = KnownStock(stock, not self._asking)
        else:
            before, known.last = known.newest, stock.version
        sight = StockObservation(known, stock, before, row)
        for listener in self._listeners:
            listener(sight)
        if before is None or stock.version > before.version:
            known.newest = stock
