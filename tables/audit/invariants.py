"""Whether the log's counters are what its orders hold: promises stand, so that the orders are right where they differ.

In: a fold. Out: by SKU the units that open orders hold, as counters; and where a SKU's own counters say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from stocktide.tables.ledger.records import OrderRecord, SkuRecord

# The counters that are nothing but a sum over orders.
ORDER_SUM_PREFIXES = ("locked@", "committed@", "preordered@")
# Where the units lie that an order holds, by its state.
_HELD = {"reserved": "locked@", "paid": "committed@"}

OrderSums = dict[str, dict[str, int]]


def add_order(sums: OrderSums, record: OrderRecord) -> None:
    """Add what an order holds."""
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
    """Whether a counter is a sum over orders."""
    return counter.startswith(ORDER_SUM_PREFIXES)


def differing_order_sums(record: SkuRecord | None, held: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """(counter, what orders hold, what the SKU says) where they differ."""
    said = {name: units for name, units in record.counters.items() if is_order_sum(name)} if record else {}
    if said == held:
        return
    for name in sorted(said.keys() | held.keys()):
        if said.get(name, 0) != held.get(name, 0):
            yield name, held.get(name, 0), said.get(name, 0)
