"""The state of every SKU, folded from rows of `stock`.

In: the records of a history. Out: the newest row and the final read of each SKU, and each row to the listeners. A row's
version names one state of the SKU; rows may be repeated, and after a crash an older one may follow a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.history import ReadStock, RunQuiesced, StockPublished


class KnownStock:
    """A SKU: its newest row, and the version of the last row."""

    __slots__ = ("existed_before_run", "last", "newest")

    def __init__(self, row: StockView, existed_before_run: bool) -> None:
        self.newest = row
        self.last = row.version
        # It existed before the first request: the origin of its units is unknown.
        self.existed_before_run = existed_before_run


class StockObservation(NamedTuple):
    """A row of a SKU; `before` is the newest row before it, None for the first."""

    known: KnownStock
    stock: StockView
    before: StockView | None
    row: StockPublished


class StockTracker:
    """Tracks all SKUs."""

    def __init__(self) -> None:
        self.skus: dict[str, KnownStock] = {}
        # The last read of each SKU at rest.
        self.final: dict[str, ReadStock] = {}
        self._quiesced = False
        self._listeners: list[Callable[[StockObservation], None]] = []
        self._run_started = False

    def add_listener(self, listener: Callable[[StockObservation], None]) -> None:
        """Call `listener` for every row."""
        self._listeners.append(listener)

    def handlers(self) -> Mapping[type, Callable[[Any], None]]:
        return {
            StockPublished: self._on_row,
            ReadStock: self._on_read,
            RunQuiesced: lambda _: setattr(self, "_quiesced", True),
        }

    def on_request(self, request: PendingRequest) -> None:
        self._run_started = True

    def existed_before_run(self, sku: str) -> bool:
        """Whether a SKU existed before the run."""
        known = self.skus.get(sku)
        return known is not None and known.existed_before_run

    def _on_read(self, read: ReadStock) -> None:
        if self._quiesced:
            self.final[read.sku] = read

    def _on_row(self, row: StockPublished) -> None:
        stock, known = row.stock, self.skus.get(row.stock.sku)
        if known is None:
            before = None
            known = self.skus[stock.sku] = KnownStock(stock, not self._run_started)
        else:
            before, known.last = known.newest, stock.version
        observation = StockObservation(known, stock, before, row)
        for listener in self._listeners:
            listener(observation)
        if before is None or stock.version > before.version:
            known.newest = stock
