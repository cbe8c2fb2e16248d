"""The state of every SKU, folded from rows of `stock`.

In: the records of a history. Out: the newest row and the final read of each SKU, and each row to the listeners. A row's
version names one state of the SKU; rows may be repeated, and after a crash an older one may follow a newer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.oracle.dispatcher import Handlers, Listener, PendingRequest
from stocktide.loadtest.oracle.history import ReadStock, StockPublished


@dataclass(slots=True, eq=False)
class KnownStock:
    """A SKU: its newest row, and the version of the last row. `existed_before_run`: it existed before the first
    request, so the origin of its units is unknown."""

    newest: StockView
    last: int
    existed_before_run: bool


class StockObservation(NamedTuple):
    """A row of a SKU; `before` is the newest row before it, None for the first."""

    known: KnownStock
    stock: StockView
    before: StockView | None
    row: StockPublished


class StockTracker(Listener):
    """Tracks all SKUs. `listeners` are called for every row."""

    def __init__(self) -> None:
        self.skus: dict[str, KnownStock] = {}
        # The last read of each SKU at rest.
        self.final: dict[str, ReadStock] = {}
        self.listeners: list[Callable[[StockObservation], None]] = []
        self._run_started = False

    def handlers(self) -> Handlers:
        return {StockPublished: self._on_row, ReadStock: self._on_read}

    def on_request(self, request: PendingRequest) -> None:
        self._run_started = True

    def existed_before_run(self, sku: str) -> bool:
        """Whether a SKU existed before the run."""
        known = self.skus.get(sku)
        return known is not None and known.existed_before_run

    def _on_read(self, read: ReadStock) -> None:
        if self.quiesced_at is not None:
            self.final[read.sku] = read

    def _on_row(self, row: StockPublished) -> None:
        stock, known = row.stock, self.skus.get(row.stock.sku)
        if known is None:
            before = None
            known = self.skus[stock.sku] = KnownStock(stock, stock.version, not self._run_started)
        else:
            before, known.last = known.newest, stock.version
        observation = StockObservation(known, stock, before, row)
        for listener in self.listeners:
            listener(observation)
        if before is None or stock.version > before.version:
            known.newest = stock
