"""Invoices of Online Retail as input events.

In: an `Invoice`, or the SKUs that get an opening stock.
Out: order events and movements. Their ids are deterministic, so sending the same file again repeats known events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b

from stocktide.loadtest.client.events import LINES_MAX, Event
from stocktide.loadtest.workload.retail import Invoice, InvoiceItem

# The data set has no warehouses: all of its stock is in one.
WAREHOUSE = "UK1"
ID_PREFIX = "retail-"


def opening_receipts(skus: Sequence[str], units: int, at: datetime) -> Iterator[Event]:
    """Receipts of `units` of every SKU, `LINES_MAX` lines each.

    The id depends on the content: the same receipts are repeats, other units are other receipts.
    """
    for start in range(0, len(skus), LINES_MAX):
        names = skus[start : start + LINES_MAX]
        digest = blake2b("\n".join(names).encode(), digest_size=6).hexdigest()
        yield {
            "type": "stock.received",
            "id": f"{ID_PREFIX}opening-{units}-{digest}",
            "occurred_at": _time(at),
            "warehouse": WAREHOUSE,
            "lines": [{"sku": sku, "quantity": units} for sku in names],
        }


def invoice_orders(invoice: Invoice) -> Iterator[Event]:
    """The `order.placed` of an invoice; several where it has more lines than an order may have."""
    for suffix, items in _parts(invoice.ordered):
        order_id = f"{ID_PREFIX}{invoice.number}{suffix}"
        yield {
            "type": "order.placed",
            "id": f"{order_id}-placed",
            "occurred_at": _time(invoice.at),
            "order_id": order_id,
            "channel": invoice.channel,
            "lines": [{"sku": item.sku, "quantity": item.quantity} for item in items],
        }


def invoice_movements(invoice: Invoice) -> Iterator[Event]:
    """Returns without a known order, and write-offs, as adjustments."""
    yield from _adjustments(invoice, invoice.returned, "customer_return", 1)
    yield from _adjustments(invoice, invoice.written_off, "write_off", -1)


def _adjustments(invoice: Invoice, items: tuple[InvoiceItem, ...], reason: str, sign: int) -> Iterator[Event]:
    for suffix, part in _parts(items):
        yield {
            "type": "stock.adjusted",
            "id": f"{ID_PREFIX}{invoice.number}-{reason}{suffix}",
            "occurred_at": _time(invoice.at),
            "warehouse": WAREHOUSE,
            "reason": reason,
            "lines": [{"sku": item.sku, "quantity": sign * item.quantity} for item in part],
        }


def _parts(items: tuple[InvoiceItem, ...]) -> Iterator[tuple[str, tuple[InvoiceItem, ...]]]:
    for number, start in enumerate(range(0, len(items), LINES_MAX), start=1):
        yield ("" if number == 1 else f"-part-{number}"), items[start : start + LINES_MAX]


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
