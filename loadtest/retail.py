"""The Online Retail file: its rows in, invoices out, one at a time (Chen 2015, UCI, doi 10.24432/C5BW33).

In: a CSV, plain or gz, with the columns `COLUMNS`. Rows of one InvoiceNo are one invoice.
Out: `Invoice`: what was ordered, what came back, what was written off, and why rows were skipped.
Memory is constant: `INVOICES_HELD_MAX` invoices. Stock codes stay as written, less outer white space.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
# The contract's limits of a name and a quantity.
NAME_LENGTH_MAX = 128
QUANTITY_MAX = 1_000_000
# An invoice is held whole: far more rows than any real one, so that a broken file cannot fill the memory.
INVOICE_ROWS_MAX = 100_000
# Rows of one invoice are neighbours, but a few go on after another one (542806 does): so many stay open.
INVOICES_HELD_MAX = 32
# A field of this file is a few words; a longer one is a quote that was never closed.
FIELD_LENGTH_MAX = 10_000

GOODS_PREFIXES = ("DCGS", "gift_")
_GZIP_MAGIC = b"\x1f\x8b"
_PRINTABLE_NAME = re.compile(r"[^\s\x00-\x1f\x7f]+")
_NO_CHANNEL_NAME = re.compile(r"[^a-z0-9]+")


class RetailError(Exception):
    """The file cannot be read as what it should be; the message names file, line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Item:
    """Units of a SKU; always positive."""

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
    ordered: tuple[Item, ...] = ()
    returned: tuple[Item, ...] = ()
    written_off: tuple[Item, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Survey:
    """What a whole file holds: rows, invoices, its SKUs, its first date, rows skipped by reason."""

    rows: int = 0
    invoices: int = 0
    orders: int = 0
    skus: dict[str, None] = field(default_factory=dict)
    first_at: datetime | None = None
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Row:
    number: str
    code: str
    quantity: int
    at: datetime
    country: str


def survey(path: Path) -> Survey:
    """Read a file to its end, so that a bad row is known before anything is sent. Raises RetailError."""
    found = Survey()
    for invoice in read(path):
        found.invoices += 1
        found.orders += bool(invoice.ordered)
        found.first_at = min(found.first_at or invoice.at, invoice.at)
        found.skipped.update(invoice.skipped)
        found.rows += sum(invoice.skipped.values())
        for items in (invoice.ordered, invoice.returned, invoice.written_off):
            found.rows += len(items)
            found.skus.update((item.sku, None) for item in items)
    return found


def read(path: Path) -> Iterator[Invoice]:
    """The invoices of a file, in its order. Raises RetailError with the line number where it cannot go on."""
    held: dict[str, list[_Row]] = {}
    for row in _rows(path):
        rows = held.get(row.number)
        if rows is None:
            if len(held) == INVOICES_HELD_MAX:
                yield invoice_of(held.pop(next(iter(held))))
            rows = held[row.number] = []
        if len(rows) == INVOICE_ROWS_MAX:
            raise RetailError(f"{path}: invoice {row.number} has more than {INVOICE_ROWS_MAX} rows")
        rows.append(row)
    for rows in held.values():
        yield invoice_of(rows)


def invoice_of(rows: list[_Row]) -> Invoice:
    """Sort the rows of one invoice into orders, returns and write-offs."""
    number = rows[0].number
    cancellation = number.startswith("C")
    ordered: list[Item] = []
    returned: list[Item] = []
    written_off: list[Item] = []
    sums: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for row in rows:
        units = abs(row.quantity)
        if (reason := _why_skipped(row, cancellation)) is not None:
            skipped[reason] += 1
        elif sums[row.code] + units > QUANTITY_MAX:
            # Lines of one SKU are summed before the check, and the sum has the limit of a line.
            skipped["quantity_too_large"] += 1
        else:
            sums[row.code] += units
            where = ordered if row.quantity > 0 else returned if cancellation else written_off
            where.append(Item(row.code, units))
    return Invoice(
        number,
        rows[0].at,
        channel_of(rows[0].country),
        tuple(ordered),
        tuple(returned),
        tuple(written_off),
        dict(skipped),
    )


def is_goods(code: str) -> bool:
    """Whether a stock code names goods; the others are fees and manual entries."""
    return code[:1].isdigit() or code.startswith(GOODS_PREFIXES)


def channel_of(country: str) -> str:
    """A country as a channel's name: `United Kingdom` becomes `united-kingdom`."""
    return _NO_CHANNEL_NAME.sub("-", country.casefold()).strip("-")[:NAME_LENGTH_MAX] or "unspecified"


def _why_skipped(row: _Row, cancellation: bool) -> str | None:
    if not is_goods(row.code):
        return f"fee {row.code}" if row.code else "no stock code"
    if len(row.code) > NAME_LENGTH_MAX or not _PRINTABLE_NAME.fullmatch(row.code):
        return "stock code is no SKU name"
    if row.quantity == 0:
        return "quantity 0"
    if abs(row.quantity) > QUANTITY_MAX:
        return "quantity_too_large"
    if cancellation and row.quantity > 0:
        return "positive in a cancellation"
    return None


def _rows(path: Path) -> Iterator[_Row]:
    line = 0
    try:
        with _open(path) as text:
            reader = csv.reader(text, strict=True)
            line = 1
            _check_header(path, next(reader, None))
            parse = _RowParser()
            for fields in reader:
                line = reader.line_num
                if fields:
                    yield parse(fields)
            if line <= 1:
                raise RetailError(f"{path}: a header and no rows")
    except FileNotFoundError:
        raise RetailError(f"{path}: there is no such file") from None
    except EOFError:
        raise RetailError(f"{path}: after line {line}: the gz file is cut off") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RetailError(f"{path}: after line {line}: the gz file is damaged: {error}") from None
    except UnicodeDecodeError as error:
        raise RetailError(f"{path}: after line {line}: not UTF-8: {error.reason}") from None
    except (csv.Error, ValueError) as error:
        raise RetailError(f"{path}: line {max(line, 1)}: {error}") from None
    except OSError as error:
        raise RetailError(f"{path}: cannot be read: {error.strerror or error}") from None


def _open(path: Path) -> IO[str]:
    csv.field_size_limit(FIELD_LENGTH_MAX)
    raw = path.open("rb")
    packed = raw.read(2) == _GZIP_MAGIC
    raw.seek(0)
    stream = gzip.GzipFile(fileobj=raw) if packed else raw
    # utf-8-sig: spreadsheets put a byte order mark in front.
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _check_header(path: Path, header: Iterable[str] | None) -> None:
    if header is None:
        raise RetailError(f"{path}: the file is empty")
    names = tuple(name.strip() for name in header)
    if names != COLUMNS:
        raise RetailError(f"{path}: line 1: the columns are {', '.join(names)}; expected {', '.join(COLUMNS)}")


class _RowParser:
    """Parses fields into rows; remembers the last date, because neighbours share it. Raises ValueError."""

    def __init__(self) -> None:
        self._written = ""
        self._at = datetime.min.replace(tzinfo=UTC)

    def __call__(self, fields: list[str]) -> _Row:
        if len(fields) != len(COLUMNS):
            raise ValueError(f"{len(fields)} fields; expected {len(COLUMNS)}")
        number, code, _, quantity, at, _, _, country = fields
        number = number.strip()
        if not _PRINTABLE_NAME.fullmatch(number) or len(number) > NAME_LENGTH_MAX // 2:
            raise ValueError(f"InvoiceNo {number[:NAME_LENGTH_MAX]!r} cannot be part of an id")
        return _Row(number, code.strip(), _whole_number(quantity), self._date(at), country)

    def _date(self, written: str) -> datetime:
        if written != self._written:
            try:
                parsed = datetime.fromisoformat(written.strip())
            except ValueError:
                raise ValueError(f"InvoiceDate {written!r} is no date like 2010-12-01 08:26") from None
            self._at = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
            self._written = written
        return self._at


def _whole_number(written: str) -> int:
    try:
        return int(written)
    except ValueError:
        raise ValueError(f"Quantity {written[:40]!r} is no whole number") from None
