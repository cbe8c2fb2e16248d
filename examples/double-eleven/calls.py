"""The calls of the story: requests over HTTP, and events that go into Kafka through `POST /v1/events`.

In: names and numbers. Out: `Call`s. `tmall`, `own` and `shopify` place their orders over HTTP; `jd` and `douyin` report
theirs as events, as warehouses do their movements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EVENT_CHANNELS = ("jd", "douyin")
# Long enough for the whole example.
HOLD_SECONDS = 900

Lines = dict[str, int]


@dataclass(frozen=True, slots=True)
class Call:
    """An event of the contract, or a policy. By HTTP it has to be answered with `status` and, if it is refused, with
    `code`. `eta` is a time of the story, `until` the state of the order for which the program waits."""

    kind: str
    body: dict[str, Any]
    is_event: bool = False
    status: int = 200
    code: str | None = None
    eta: str | None = None
    until: str | None = None


def policy(channel: str, sku: str | None = None, **fields: Any) -> Call:
    """A policy of a channel, or of a SKU in it."""
    return Call("policy.put", {"channel": channel, "sku": sku, "policy": fields})


def order(
    order_id: str, lines: Lines, *, status: int = 201, code: str | None = None, until: str | None = None, **more: Any
) -> Call:
    """An order; its channel is the first part of its id."""
    channel = order_id.partition("-")[0]
    body = {"order_id": order_id, "channel": channel, "lines": _lines(lines), "hold_seconds": HOLD_SECONDS, **more}
    return Call("order.placed", body, channel in EVENT_CHANNELS, status, code, until=until)


def pay(order_id: str, **more: Any) -> Call:
    """A payment."""
    return _of_order("order.paid", order_id, **more)


def cancel(order_id: str, lines: Lines | None = None) -> Call:
    """A cancellation, of single units if there are lines."""
    return _of_order("order.cancelled", order_id, **({"lines": _lines(lines)} if lines else {}))


def change(order_id: str, remove: Lines, add: Lines) -> Call:
    """An exchange."""
    return _of_order("order.changed", order_id, remove=_lines(remove), add=_lines(add))


def ship(order_id: str, *lines: tuple[str, int, str]) -> Call:
    """A shipment of (SKU, units, warehouse)."""
    shipped = [{"sku": sku, "quantity": units, "warehouse": warehouse} for sku, units, warehouse in lines]
    return Call("order.shipped", {"order_id": order_id, "lines": shipped}, is_event=True)


def take_back(order_id: str, sku: str, units: int, warehouse: str, condition: str = "sellable") -> Call:
    """A return."""
    line = {"sku": sku, "quantity": units, "warehouse": warehouse, "condition": condition}
    return Call("order.returned", {"order_id": order_id, "lines": [line]}, is_event=True)


def move(kind: str, id: str, warehouse: str, lines: Lines, eta: str | None = None, **more: Any) -> Call:
    """A movement, or the announcement of one."""
    body = {"id": id, "warehouse": warehouse, "lines": _lines(lines), **more}
    return Call(f"stock.{kind}", body, is_event=True, eta=eta)


def _of_order(kind: str, order_id: str, **more: Any) -> Call:
    is_event = order_id.partition("-")[0] in EVENT_CHANNELS
    return Call(kind, {"order_id": order_id, **more}, is_event)


def _lines(lines: Lines) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": units} for sku, units in lines.items()]
