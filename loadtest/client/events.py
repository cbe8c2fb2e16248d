"""Input events of the contract as JSON objects.

In: the fields of an event. Out: an `Event`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stocktide.loadtest.client.contract import OrderView

# The contract's limit of lines in one event.
LINES_MAX = 2_000

Event = dict[str, Any]


def order_paid(placed: Event) -> Event:
    """The payment of a placed order."""
    order_id = placed["order_id"]
    return {
        "type": "order.paid",
        "id": f"{order_id}-paid",
        "occurred_at": placed["occurred_at"],
        "order_id": order_id,
    }


def shipment_lines(order: OrderView) -> list[Event]:
    """All units that an order holds, from where it holds them."""
    return [
        {"sku": line.sku, "quantity": units, "warehouse": warehouse}
        for line in order.lines
        for warehouse, units in line.warehouses.items()
        if units
    ]


def order_shipped(order_id: str, at: str, lines: list[Event]) -> Event:
    """The shipment of these lines of an order."""
    return {
        "type": "order.shipped",
        "id": f"{order_id}-shipped",
        "occurred_at": at,
        "order_id": order_id,
        "lines": lines,
    }


def utc_now() -> str:
    """The current time as `occurred_at` holds it."""
    return utc_in(0)


def utc_in(seconds: float) -> str:
    """The time so many seconds from now."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
