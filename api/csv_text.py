"""CSV (RFC 4180) for spreadsheets.

In: rows of texts that anyone may have chosen. Out: the bytes, in which no cell is a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

# What spreadsheets take as the beginning of a formula (OWASP, CSV injection), their wide forms included.
FORMULA_CHARACTERS = frozenset("=+-@\t\r\n＝＋－＠")


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """The header and the rows, each line ended by CRLF."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def harmless(cell: str) -> str:
    """The text as it may stand in a cell: one that begins as a formula does, also after white space, gets a `'` before
    it."""
    is_formula = any(text[:1] in FORMULA_CHARACTERS for text in (cell, cell.lstrip()) if text)
    return f"'{cell}" if is_formula else cell
