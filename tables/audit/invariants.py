"""The invariant of the counters that are sums over open orders. If they differ, the orders are right.

In: records of a fold. Out: by SKU the units held by open orders, as counters; and the differing counters of a SKU.
"""

from __future__ import annotations

from collections.abc import Iterator

from stocktide.tables.ledger.records import OrderRecord, SkuRecord

# The counters that are sums over open orders.
ORDER_SUM_PREFIXES = ("locked@", "committed@", "preordered@")
# The counter of the units that an order holds, by its state.
_HELD = {"reserved": "locked@", "paid": "committed@"}

OrderSums = dict[str, dict[str, int]]


def add_order(sums: OrderSums, record: OrderRecord) -> None:
    """Add the units that an order holds."""
    held = _HELD.get(record.state)
    if held is None:
        return
    for line in record.lines:
        if line.reserved or line.preordered:
            counters = sums.setdefault(line.sku, {})
            for warehouse, units in line.warehouses.items():
                name = held + warehouse
                counters[name] = counters.get(name, 0) + units
            if line.preordered:
                name = "preordered@" + record.channel
                counters[name] = counters.get(name, 0) + line.preordered


def is_order_sum(counter: str) -> bool:
    """Whether a counter is a sum over open orders."""
    return counter.startswith(ORDER_SUM_PREFIXES)


def differing_order_sums(record: SkuRecord | None, held: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """(counter, the orders' sum, the SKU's value) for each difference."""
    counters_of_sku = {name: units for name, units in record.counters.items() if is_order_sum(name)} if record else {}
    if counters_of_sku == held:
        return
    for name in sorted(counters_of_sku.keys() | held.keys()):
        if counters_of_sku.get(name, 0) != held.get(name, 0):
            yield name, held.get(name, 0), counters_of_sku.get(name, 0)
