"""Input events of the contract as JSON objects.

In: the fields of an event. Out: an `Event`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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


def order_shipped(order_id: str, at: str, lines: Sequence[tuple[str, int, str]]) -> Event:
    """The shipment of (SKU, units, warehouse) of an order."""
    return {
        "type": "order.shipped",
        "id": f"{order_id}-shipped",
        "occurred_at": at,
        "order_id": order_id,
        "lines": [{"sku": sku, "quantity": units, "warehouse": warehouse} for sku, units, warehouse in lines],
    }


def utc_now() -> str:
    """The current time as `occurred_at` holds it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
