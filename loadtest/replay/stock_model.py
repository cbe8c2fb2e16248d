"""What every SKU should be, folded from what `reservations` and `adjustments` told, and nothing else.

In: rows of the two topics, in any order, repeated or not (the newest `sequence` or `batch` of a key wins).
Out: `ExpectedSku` per SKU, and the differences to what `GET /v1/stock/{sku}` says.
Quantities are whole units. Per order only numbers are kept, in a flat array.

What the rows cannot say: whether returned units were fit for sale. Where an order returned some, `on_hand`
may be lower than expected by as many.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

# Per line of an order: the index of its SKU, and the units reserved, preordered, shipped and returned.
_NUMBERS = 5
_INCREASES = frozenset({"stock.received"})


class ReplayedOrderLine(Struct, frozen=True):
    """A line of a row of `reservations`: units held, preordered, shipped and returned as of now."""

    sku: str
    quantity: int
    reserved: int = 0
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    warehouses: dict[str, int] = field(default_factory=dict)
    reason: str | None = None


class ReplayedOrder(Struct, frozen=True):
    """A row of `reservations`: an order as it is now. `outcome` is how its placing was answered."""

    order_id: str
    state: str
    lines: tuple[ReplayedOrderLine, ...]
    sequence: int = 0
    batch: int = 0
    outcome: str = ""


class ReplayedMovementLine(Struct, frozen=True):
    """What a movement did to a SKU: `change` of `on_hand` at the movement's warehouse."""

    sku: str
    quantity: int
    outcome: str = ""
    change: int = 0


class ReplayedMovement(Struct, frozen=True):
    """A row of `adjustments`: what a movement did."""

    warehouse: str
    id: str
    type: str
    outcome: str
    lines: tuple[ReplayedMovementLine, ...] = ()
    batch: int = 0


class Warehouse(Struct, frozen=True):
    """One building in the answer of `GET /v1/stock/{sku}`."""

    available: int = 0


class ActualStock(Struct, frozen=True):
    """The answer of `GET /v1/stock/{sku}`, as far as it is compared."""

    sku: str
    version: int
    on_hand: int
    committed: int
    locked: int
    available: int
    preordered: int = 0
    warehouses: dict[str, Warehouse] = field(default_factory=dict)


class ExpectedSku(Struct):
    """What a SKU should be. `written_off`: a warehouse's fact lowered it; `available` may be below 0."""

    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    preordered: int = 0
    returned: int = 0
    written_off: bool = False


class StockDifference(Struct, frozen=True):
    """A number of a SKU that is not what the rows say."""

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
        self._skus: list[str] = []
        self.changes = 0
        self.newest_batch = 0

    def take_order(self, row: ReplayedOrder) -> bool:
        """Fold a row of `reservations`; False where a newer one was seen. Counts a change once."""
        self.newest_batch = max(self.newest_batch, row.batch)
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

    def take_movement(self, row: ReplayedMovement) -> bool:
        """Fold a row of `adjustments`; False where one as new was seen. The same row again is no change."""
        self.newest_batch = max(self.newest_batch, row.batch)
        key = (row.warehouse, row.id)
        known = self._movements.get(key)
        if known is not None:
            if known[0] >= row.batch:
                return False
            self._count_movement(known[1], -1)
        numbers = array("q")
        # What a transfer takes from one building it brings to another: of the sum nothing changes.
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
        """Every SKU that a row moved."""
        return tuple(self._skus)

    def expected(self, sku: str) -> ExpectedSku:
        """What the SKU should be; all zero where no row named it."""
        index = self._index_of.get(sku)
        return ExpectedSku() if index is None else self._expected[index]

    def differences(self, sku: str, stock: ActualStock | None) -> Iterator[StockDifference]:
        """Where the answer for a SKU is not what the rows say; `stock` None: the SKU was unknown (404)."""
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
            index = self._index_of[sku] = len(self._skus)
            self._skus.append(sku)
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
