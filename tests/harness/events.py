"""Input events as channels and warehouses send them.

In: ids, SKUs, quantities. Out: events as JSON objects.
"""

from __future__ import annotations

from typing import Any

AT = "2026-11-11T00:00:00Z"
Event = dict[str, Any]
Line = tuple[str, int]


def lines_of(*lines: Line) -> list[Event]:
    return [{"sku": sku, "quantity": quantity} for sku, quantity in lines]


def stock_received(id_: str, *lines: Line, warehouse: str = "SH1") -> Event:
    common = {"type": "stock.received", "id": id_, "occurred_at": AT, "warehouse": warehouse}
    return {**common, "lines": lines_of(*lines)}


def stock_expected(
    id_: str, *lines: Line, at: str = AT, eta: str = "2099-01-01T00:00:00Z", warehouse: str = "SH1"
) -> Event:
    common = {"type": "stock.expected", "id": id_, "occurred_at": at, "warehouse": warehouse}
    return {**common, "eta": eta, "lines": lines_of(*lines)}


def order_event(kind: str, order_id: str, **more: Any) -> Event:
    return {"type": f"order.{kind}", "id": f"{order_id}-{kind}", "occurred_at": AT, "order_id": order_id, **more}


def order_placed(order_id: str, sku: str = "A", quantity: int = 1, **more: Any) -> Event:
    return order_event("placed", order_id, **{"channel": "jd", "lines": lines_of((sku, quantity)), **more})


def order_paid(order_id: str, **more: Any) -> Event:
    return order_event("paid", order_id, **more)


def placed_and_paid(order_id: str) -> tuple[Event, Event]:
    return order_placed(order_id), order_paid(order_id)
