"""Invoices as input events of the contract: what the replay sends, as JSON objects.

In: an `Invoice`, or the SKUs that get an opening stock.
Out: order events and movements with deterministic ids, by which the same file, sent again, is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

from stocktide.loadtest.workload.retail import Invoice, InvoiceItem

# The contract's limit of lines in one message.
LINES_MAX = 2_000
# All stock of the file lies in one building, as that of the shop did.
WAREHOUSE = "UK1"
# Every id of a replay begins so.
ID_PREFIX = "retail-"

Event = dict[str, Any]


def opening_receipts(skus: Sequence[str], units: int, at: datetime) -> Iterator[Event]:
    """Receipts of `units` of every SKU, `LINES_MAX` lines each.

    The id names what is received: the same again is a repeat, another number of units another receipt.
    """
    for start in range(0, len(skus), LINES_MAX):
        names = skus[start : start + LINES_MAX]
        mark = blake2b("\n".join(names).encode(), digest_size=6).hexdigest()
        yield {
            "type": "stock.received",
            "id": f"{ID_PREFIX}opening-{units}-{mark}",
            "occurred_at": _time(at),
            "warehouse": WAREHOUSE,
            "lines": [{"sku": sku, "quantity": units} for sku in names],
        }


def orders_of(invoice: Invoice) -> Iterator[Event]:
    """The `order.placed` of an invoice; more than one where it has more lines than an order may have."""
    for part, items in _parts(invoice.ordered):
        order_id = f"{ID_PREFIX}{invoice.number}{part}"
        yield {
            "type": "order.placed",
            "id": f"{order_id}-placed",
            "occurred_at": _time(invoice.at),
            "order_id": order_id,
            "channel": invoice.channel,
            "lines": [{"sku": item.sku, "quantity": item.quantity} for item in items],
        }


def paid_of(placed: Event) -> Event:
    """The payment of a placed order."""
    order_id = placed["order_id"]
    return {
        "type": "order.paid",
        "id": f"{order_id}-paid",
        "occurred_at": placed["occurred_at"],
        "order_id": order_id,
    }


def shipped_of(order_id: str, at: str, lines: Sequence[tuple[str, int, str]]) -> Event:
    """The shipment of (sku, units, warehouse) of an order."""
    return {
        "type": "order.shipped",
        "id": f"{order_id}-shipped",
        "occurred_at": at,
        "order_id": order_id,
        "lines": [{"sku": sku, "quantity": units, "warehouse": warehouse} for sku, units, warehouse in lines],
    }


def movements_of(invoice: Invoice) -> Iterator[Event]:
    """Returns without a known order, and write-offs, as adjustments."""
    yield from _adjustments(invoice, invoice.returned, "customer_return", 1)
    yield from _adjustments(invoice, invoice.written_off, "write_off", -1)


def _adjustments(invoice: Invoice, items: tuple[InvoiceItem, ...], reason: str, sign: int) -> Iterator[Event]:
    for part, some in _parts(items):
        yield {
            "type": "stock.adjusted",
            "id": f"{ID_PREFIX}{invoice.number}-{reason}{part}",
            "occurred_at": _time(invoice.at),
            "warehouse": WAREHOUSE,
            "reason": reason,
            "lines": [{"sku": item.sku, "quantity": sign * item.quantity} for item in some],
        }


def _parts(items: tuple[InvoiceItem, ...]) -> Iterator[tuple[str, tuple[InvoiceItem, ...]]]:
    for index, start in enumerate(range(0, len(items), LINES_MAX), start=1):
        yield ("" if index == 1 else f"-part-{index}"), items[start : start + LINES_MAX]


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
