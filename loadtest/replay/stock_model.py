"""The stock that a replay expects, folded from the rows of `reservations` and `adjustments` alone.

In: rows of the two topics, in any order, repeated or not (the highest `sequence` or `batch` of a key wins).
Out: an `ExpectedSku` per SKU, and the differences from `GET /v1/stock/{sku}`.
Per order only numbers are kept, in a flat array.

The rows do not say whether returned units are sellable. Where an order returned some, `on_hand` may be lower than
expected by as many.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from stocktide.client import Stock
from stocktide.loadtest.client.contract import MovementView, OrderView
from stocktide.loadtest.client.http import StocktideClient

# Numbers per order line: the index of its SKU, then the units reserved, preordered, shipped and returned.
_NUMBERS = 5
_INCREASES = frozenset({"stock.received"})
# Rows are milliseconds behind the ledger; other buyers' orders may differ until the stock is read between two of them.
SETTLE_SECONDS_MAX = 20.0
RETRY_SECONDS = 0.25


class ExpectedSku(Struct):
    """The expected stock of a SKU. `written_off`: a movement lowered `on_hand`, so `available` may be below 0."""

    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    preordered: int = 0
    returned: int = 0
    written_off: bool = False


class StockDifference(Struct, frozen=True):
    """A number of a SKU that is not the expected one."""

    sku: str
    field: str
    expected: Any
    actual: Any


class StockModel:
    """Folds rows into expectations."""

    def __init__(self) -> None:
        self._orders: dict[str, tuple[int, str, array[int]]] = {}
        self._movements: dict[tuple[str, str], tuple[int, array[int]]] = {}
        self._index_of: dict[str, int] = {}
        self._expected: list[ExpectedSku] = []
        self.changes = 0

    def take_order(self, row: OrderView) -> bool:
        """Fold a row of `reservations`; False where a newer one is known. Counts a change once."""
        known = self._orders.get(row.order_id)
        if known is not None:
            if known[0] >= row.sequence:
                return False
            self._count_order(known[1], known[2], -1)
        numbers = array("q")
        for line in row.lines:
            amounts = (line.reserved, line.preordered, line.shipped, line.returned)
            if any(amounts):
                numbers.extend((self._index(line.sku), *amounts))
        self._orders[row.order_id] = (row.sequence, row.state, numbers)
        self._count_order(row.state, numbers, 1)
        self.changes += 1
        return True

    def take_movement(self, row: MovementView) -> bool:
        """Fold a row of `adjustments`; False where one as new is known. A repeated row is no change."""
        key = (row.warehouse, row.id)
        known = self._movements.get(key)
        if known is not None:
            if known[0] >= row.batch:
                return False
            self._count_movement(known[1], -1)
        numbers = array("q")
        # A transfer leaves the sum over the warehouses as it is.
        if row.type != "stock.transferred":
            for line in row.lines:
                if line.change:
                    numbers.extend((self._index(line.sku), line.change))
                    lowered = line.change < 0 and row.type not in _INCREASES
                    self._expected[numbers[-2]].written_off |= lowered
        self._movements[key] = (row.batch, numbers)
        self._count_movement(numbers, 1)
        self.changes += known is None or known[1] != numbers
        return True

    def skus(self) -> tuple[str, ...]:
        """Every SKU in the rows."""
        return tuple(self._index_of)

    def expected(self, sku: str) -> ExpectedSku:
        """The expected stock of a SKU; all 0 where no row names it."""
        index = self._index_of.get(sku)
        return ExpectedSku() if index is None else self._expected[index]

    def differences(self, sku: str, stock: Stock | None) -> Iterator[StockDifference]:
        """The differences of a SKU; `stock` is None where the API does not know it."""
        want = self.expected(sku)
        if stock is None:
            if want.on_hand or want.committed or want.locked or want.preordered:
                yield StockDifference(sku, "known", True, False)
            return
        if not want.on_hand - want.returned <= stock.on_hand <= want.on_hand:
            yield StockDifference(sku, "on_hand", want.on_hand, stock.on_hand)
        for name in ("committed", "locked", "preordered"):
            if (should := getattr(want, name)) != (found := getattr(stock, name)):
                yield StockDifference(sku, name, should, found)
        if stock.available < 0 and not want.written_off:
            yield StockDifference(sku, "available", "0 or more", stock.available)

    def _index(self, sku: str) -> int:
        index = self._index_of.get(sku)
        if index is None:
            index = self._index_of[sku] = len(self._expected)
            self._expected.append(ExpectedSku())
        return index

    def _count_order(self, state: str, numbers: array[int], sign: int) -> None:
        unpaid = state == "reserved"
        for at in range(0, len(numbers), _NUMBERS):
            index, reserved, preordered, shipped, returned = numbers[at : at + _NUMBERS]
            want = self._expected[index]
            if unpaid:
                want.locked += sign * reserved
            else:
                want.committed += sign * reserved
            want.preordered += sign * preordered
            want.on_hand += sign * (returned - shipped)
            want.returned += sign * returned

    def _count_movement(self, numbers: array[int], sign: int) -> None:
        for at in range(0, len(numbers), 2):
            self._expected[numbers[at]].on_hand += sign * numbers[at + 1]


async def find_differences(
    model: StockModel, client: StocktideClient, skus: Iterable[str], catch_up: Callable[[], Awaitable[None]]
) -> list[StockDifference]:
    """Every number that is not as expected. SKUs that differ are read again, after their rows. Raises ApiError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS_MAX
    differing = list(skus)
    while True:
        stocks = await asyncio.gather(*(client.stock(sku) for sku in differing))
        found = [
            difference
            for sku, stock in zip(differing, stocks, strict=True)
            for difference in model.differences(sku, stock)
        ]
        if not found or loop.time() > deadline:
            return found
        differing = list(dict.fromkeys(difference.sku for difference in found))
        await asyncio.sleep(RETRY_SECONDS)
        await catch_up()
