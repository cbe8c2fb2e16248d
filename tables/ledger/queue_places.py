"""The places of an order in the queues of orders that wait for stock, and among those that hold stock;
`lua/includes/queue.lua` and `orders.lua` compute the same.

In: an order and its line. Out: the score in the sorted sets `queue:<sku>\\n<channel>` and `held:<sku>`, a whole number.
"""

from __future__ import annotations

from stocktide.tables.ledger.records import LineRecord, OrderRecord

_SHORT_OFFSET, _VIP_OFFSET, _UNNUMBERED_OFFSET = 1 << 52, 1 << 51, 1 << 42


def place_in_queue(order: OrderRecord, line: LineRecord) -> int | None:
    """The place of a line's order, or None if the line waits for nothing or is held back."""
    if not (line.short or line.preordered) or line.sku in order.held_back:
        return None
    place = order.queued or order.placed_at - _UNNUMBERED_OFFSET
    if line.short:
        return place - _SHORT_OFFSET
    return place - _VIP_OFFSET if order.priority == "vip" else place


def hold_place(order: OrderRecord) -> int:
    """The place of an order that holds units: VIP orders first, then the oldest."""
    return order.placed_at - _VIP_OFFSET if order.priority == "vip" else order.placed_at
