"""The invoices of the Online Retail file (Chen 2015, UCI, doi 10.24432/C5BW33).

In: a CSV (`loadtest.workload.retail_rows`), plain or packed. Rows of one InvoiceNo are one invoice.
Out: `Invoice`s, one at a time: ordered, returned and written-off items, and the reasons of skipped rows; their orders
and movements as input events, whose ids are deterministic: sending the same file again repeats known events.
Memory is constant: `INVOICES_HELD_MAX` invoices. Stock codes keep their case and lose outer white space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from stocktide.loadtest.client.events import LINES_MAX, Event
from stocktide.loadtest.workload.retail_dates import DateOrder
from stocktide.loadtest.workload.retail_rows import NAME, NAME_LENGTH_MAX, RaggedRows, RetailRow, rows
from stocktide.loadtest.workload.retail_text import RetailError as RetailError

# The data set has no warehouses: all of its stock is in one.
WAREHOUSE = "UK1"
ID_PREFIX = "retail-"
# The contract's limit of a quantity.
QUANTITY_MAX = 1_000_000
# An invoice is held whole. No real one has as many rows; the limit protects memory from a broken file.
INVOICE_ROWS_MAX = 100_000
# Rows of one invoice are neighbours, but a few continue after another one (542806 does).
INVOICES_HELD_MAX = 32

GOODS_PREFIXES = ("DCGS", "gift_")
_NO_CHANNEL_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The format of a file: the order of its dates, its encoding."""

    dates: DateOrder = "iso"
    encoding: str = "utf-8"


# Dates like 2010-12-01 08:26, in UTF-8.
PLAIN = FileFormat()


@dataclass(frozen=True, slots=True)
class InvoiceItem:
    """Units of a SKU, at least 1."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice: `ordered`, `returned` and `written_off` units, and the rows skipped by reason.

    `at` is the date of the first row, taken as UTC.
    """

    number: str
    at: datetime
    channel: str
    ordered: tuple[InvoiceItem, ...] = ()
    returned: tuple[InvoiceItem, ...] = ()
    written_off: tuple[InvoiceItem, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class FileSurvey:
    """The content of a file: rows, invoices, SKUs, first and last date, skipped rows by reason, ragged rows."""

    rows: int = 0
    invoices: int = 0
    orders: int = 0
    skus: dict[str, None] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    ragged: RaggedRows = field(default_factory=RaggedRows)


def survey(path: Path, form: FileFormat = PLAIN) -> FileSurvey:
    """Read a whole file, so that a bad row is found before anything is sent. Raises RetailError."""
    found = FileSurvey()
    for invoice in read(path, form, found.ragged):
        found.invoices += 1
        found.orders += bool(invoice.ordered)
        found.first_at = min(found.first_at or invoice.at, invoice.at)
        found.last_at = max(found.last_at or invoice.at, invoice.at)
        found.skipped.update(invoice.skipped)
        found.rows += sum(invoice.skipped.values())
        for items in (invoice.ordered, invoice.returned, invoice.written_off):
            found.rows += len(items)
            found.skus.update((item.sku, None) for item in items)
    return found


def read(path: Path, form: FileFormat = PLAIN, ragged: RaggedRows | None = None) -> Iterator[Invoice]:
    """The invoices of a file, in its order. Raises RetailError with the line number where it cannot go on.

    `ragged` collects the rows whose number of fields is not the header's.
    """
    held: dict[str, list[RetailRow]] = {}
    for row in rows(path, form.dates, form.encoding, ragged or RaggedRows()):
        of_invoice = held.get(row.number)
        if of_invoice is None:
            if len(held) == INVOICES_HELD_MAX:
                yield invoice_of(held.pop(next(iter(held))))
            of_invoice = held[row.number] = []
        if len(of_invoice) == INVOICE_ROWS_MAX:
            raise RetailError(f"{path}: invoice {row.number} has more than {INVOICE_ROWS_MAX} rows")
        of_invoice.append(row)
    for of_invoice in held.values():
        yield invoice_of(of_invoice)


def invoice_of(rows: list[RetailRow]) -> Invoice:
    """An invoice from its rows."""
    number = rows[0].number
    cancellation = number[:1] in ("C", "c")
    ordered: list[InvoiceItem] = []
    returned: list[InvoiceItem] = []
    written_off: list[InvoiceItem] = []
    sums: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for row in rows:
        quantity = row.quantity or 0
        units = abs(quantity)
        if (reason := _why_skipped(row, cancellation)) is not None:
            skipped[reason] += 1
        elif sums[row.code] + units > QUANTITY_MAX:
            # The limit of a line applies to the sum of a SKU's lines.
            skipped["quantity_too_large"] += 1
        else:
            sums[row.code] += units
            where = ordered if quantity > 0 else returned if cancellation else written_off
            where.append(InvoiceItem(row.code, units))
    return Invoice(
        number,
        rows[0].at,
        channel_of(next((row.country for row in rows if row.country.strip()), "")),
        tuple(ordered),
        tuple(returned),
        tuple(written_off),
        dict(skipped),
    )


def is_goods(code: str) -> bool:
    """Whether a stock code is one of goods; others are fees and manual entries."""
    return code[:1].isdigit() or code.startswith(GOODS_PREFIXES)


def channel_of(country: str) -> str:
    """A country as a channel's name: `United Kingdom` becomes `united-kingdom`."""
    return _NO_CHANNEL_NAME.sub("-", country.casefold()).strip("-")[:NAME_LENGTH_MAX] or "unspecified"


def _why_skipped(row: RetailRow, cancellation: bool) -> str | None:
    if not is_goods(row.code):
        return f"fee {row.code}" if row.code else "no stock code"
    if len(row.code) > NAME_LENGTH_MAX or not NAME.fullmatch(row.code):
        return "stock code is no SKU name"
    if row.quantity is None:
        return "no quantity"
    if row.quantity == 0:
        return "quantity 0"
    if abs(row.quantity) > QUANTITY_MAX:
        return "quantity_too_large"
    if cancellation and row.quantity > 0:
        return "positive in a cancellation"
    return None


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
