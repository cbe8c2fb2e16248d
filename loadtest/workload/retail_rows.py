"""The rows of a copy of Online Retail, or of Online Retail II: the fields that a replay needs.

In: lines of text, and the order of its dates. Out: `RetailRow`s. The header defines the delimiter and the columns.
A row of another length than the header is read where its fields are certain, and counted in `RaggedRows`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from stocktide.loadtest.workload.retail_dates import DateOrder, parse_date
from stocktide.loadtest.workload.retail_text import RetailError, lines

# Columns that a replay needs, as the two data sets name them. Only letters and digits count: `Customer ID` is
# `CustomerID`.
NEEDED = {
    "InvoiceNo": ("invoiceno", "invoice"),
    "StockCode": ("stockcode",),
    "Quantity": ("quantity",),
    "InvoiceDate": ("invoicedate",),
    "Country": ("country",),
}
DELIMITERS = (",", ";", "\t")
# The contract's limit of a name; a number becomes part of an id.
NAME_LENGTH_MAX = 128
# A field is a few words; a longer one is an unclosed quote.
FIELD_LENGTH_MAX = 10_000
# A row of more lines has an unclosed quote; its lines are kept to find it.
ROW_LINES_MAX = 100
RAGGED_SHOWN_MAX = 10

NAME = re.compile(r"[^\s\x00-\x1f\x7f]+")
_NO_LETTER = re.compile(r"[^a-z0-9]")
_WHOLE = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)([.,]0{1,2})?", re.ASCII)
_THREE_PLACES = re.compile(r"[+-]?\d{1,3}[.,]000", re.ASCII)


@dataclass(frozen=True, slots=True)
class RetailRow:
    """One row; `quantity` is None where the field is blank."""

    number: str
    code: str
    quantity: int | None
    at: datetime
    country: str


@dataclass(slots=True)
class RaggedRows:
    """The rows that were read although their length is not the header's: their count, and the first ones."""

    rows: int = 0
    first: list[str] = field(default_factory=list)

    def note(self, line: int, what: str) -> None:
        """Count a row."""
        self.rows += 1
        if len(self.first) < RAGGED_SHOWN_MAX:
            self.first.append(f"line {line}: {what}")


def rows(path: Path, order: DateOrder, encoding: str, ragged: RaggedRows) -> Iterator[RetailRow]:
    """The rows of a file. Raises RetailError with the line where it cannot go on."""
    csv.field_size_limit(FIELD_LENGTH_MAX)
    source = _Lines(lines(path, encoding))
    empty = True
    delimiter = ","
    try:
        header = _header(path, next(source, None), order, ragged)
        delimiter = header.delimiter
        source.take()
        for fields in csv.reader(source, delimiter=delimiter, strict=True):
            if len(source.row) > 1:
                _check_quotes(source.row, header)
            if any(fields):
                empty = False
                yield header.parse(source.line, fields)
            source.take()
    except csv.Error as error:
        raise RetailError(f"{path}: {_quote_fault(source, delimiter, error)}") from None
    except ValueError as error:
        raise RetailError(f"{path}: line {source.line}: {error}") from None
    if empty:
        raise RetailError(f"{path}: a header and no rows")


class _Lines:
    """The lines of a CSV reader, with those of its current row. `line` is the number of the row's first line."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self.row: list[str] = []
        self.line = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self.row.append(line)
        if len(self.row) > ROW_LINES_MAX:
            raise csv.Error(f"the row goes on for more than {ROW_LINES_MAX} lines")
        return line

    def take(self) -> None:
        """End the current row."""
        self.line += len(self.row)
        self.row.clear()


@dataclass(frozen=True, slots=True)
class _Header:
    """`places`: the indexes of the needed columns, in their order; `description`: that of the free text, or -1."""

    delimiter: str
    columns: int
    places: tuple[int, ...]
    description: int
    dates: DateOrder
    ragged: RaggedRows

    def parse(self, line: int, fields: list[str]) -> RetailRow:
        """A row from its fields. Raises ValueError."""
        if len(fields) != self.columns:
            fields = self._evened(line, fields)
        number, code, quantity, at, country = (fields[place] for place in self.places)
        number = number.strip()
        if not NAME.fullmatch(number) or len(number) > NAME_LENGTH_MAX // 2:
            raise ValueError(f"InvoiceNo {number[:NAME_LENGTH_MAX]!r} cannot be part of an id")
        return RetailRow(number, code.strip(), self._whole(quantity), parse_date(at, self.dates), country)

    def _whole(self, written: str) -> int | None:
        return whole_number(written, decimal_comma=self.delimiter == ";")

    def _evened(self, line: int, fields: list[str]) -> list[str]:
        """The fields of a ragged row in the header's columns. Raises ValueError where that is not certain."""
        count, columns = len(fields), self.columns
        row_length = f"{count} fields; expected {columns}"
        if count < columns:
            missing = [name for name, place in zip(NEEDED, self.places, strict=True) if place >= count]
            if missing and missing != ["Country"]:
                raise ValueError(f"{row_length}: there is no {missing[0]}")
            self.ragged.note(line, f"{row_length}: the last are missing" + (", also the Country" if missing else ""))
            return [*fields, *[""] * (columns - count)]
        if not any(surplus.strip() for surplus in fields[columns:]):
            self.ragged.note(line, f"{row_length}: the last are blank")
            return fields[:columns]
        place, more = self.description, count - columns
        if place < 0:
            raise ValueError(f"{row_length}: it is not certain which is which")
        description = self.delimiter.join(fields[place : place + more + 1])
        joined = [*fields[:place], description, *fields[place + more + 1 :]]
        _, _, quantity, at, _ = (joined[place] for place in self.places)
        try:
            self._whole(quantity)
            parse_date(at, self.dates)
        except ValueError:
            raise ValueError(f"{row_length}: it is not certain which is which") from None
        self.ragged.note(line, f"{row_length}: the Description has the delimiter in it and no quotes around it")
        return joined


def _header(path: Path, line: str | None, dates: DateOrder, ragged: RaggedRows) -> _Header:
    if line is None:
        raise RetailError(f"{path}: the file is empty")
    shown: list[str] = []
    for delimiter in DELIMITERS:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
        plain = [_NO_LETTER.sub("", name.casefold()) for name in names]
        found = [[place for place, name in enumerate(plain) if name in known] for known in NEEDED.values()]
        if twice := next((name for name, places in zip(NEEDED, found, strict=True) if len(places) > 1), None):
            raise RetailError(f"{path}: line 1: more than one column is {twice}: {', '.join(names)}")
        if all(found):
            places = tuple(places[0] for places in found)
            description = plain.index("description") if "description" in plain else -1
            return _Header(delimiter, len(names), places, description, dates, ragged)
        shown = max(shown, names, key=len)
    raise RetailError(
        f"{path}: line 1: the columns are {', '.join(shown)}; expected InvoiceNo, StockCode, Quantity, InvoiceDate and"
        " Country (or Invoice, of Online Retail II), with commas, semicolons or tabs between them"
    )


def whole_number(written: str, decimal_comma: bool = False) -> int | None:
    """`6`, `-6`, `1,000` or `6.0`; None for a blank. Raises ValueError.

    `decimal_comma`: the comma may be a decimal separator, so that `1,000` may be 1.
    """
    written = written.strip()
    if not written:
        return None
    if written.isdigit() and written.isascii():
        return int(written)
    if _THREE_PLACES.fullmatch(written) and ("." in written or decimal_comma):
        plain = re.sub("[.,]", "", written)
        raise ValueError(f"Quantity {written!r} may be {plain[:-3]} or {plain}: write it without the separator")
    if (match := _WHOLE.fullmatch(written)) is None:
        raise ValueError(f"Quantity {written[:40]!r} is no whole number")
    units = int(match[1].replace(",", ""))
    return -units if written.startswith("-") else units


def _check_quotes(row: Sequence[str], header: _Header) -> None:
    """Reject a row of several lines if one of them looks like a row of its own."""
    if any(line.count(header.delimiter) >= header.columns - 1 for line in row[1:]):
        raise csv.Error("whole rows follow before the next quote")


def _quote_fault(source: _Lines, delimiter: str, error: csv.Error) -> str:
    opened = _opening_line(source.row, delimiter)
    if opened is None:
        return f"line {source.line}: {error}"
    return f"line {source.line + opened}: the quote that opens here is not closed: {error}"


def _opening_line(row: Sequence[str], delimiter: str) -> int | None:
    """The line of a row, from 0, in which a quoted field opens that does not end, or else spans lines."""
    opened = 0
    spans: int | None = None
    # Of a field: `start`, `plain`, `quoted`, or `closed` after a quote that may be the first of an escaped pair.
    state = "start"
    for place, line in enumerate(row):
        for each in line:
            ends = each == delimiter or each in "\r\n"
            if state == "quoted":
                state = "closed" if each == '"' else state
            elif each == '"' and state in ("start", "closed"):
                opened = place if state == "start" else opened
                state = "quoted"
            elif state == "closed":
                if not ends:
                    return opened
                spans = opened if spans is None and opened < place else spans
                state = "start"
            else:
                state = "start" if ends else "plain"
    return opened if state == "quoted" else spans
