"""CSV that a spreadsheet opens: no cell of it is a formula, and nothing is lost."""

from __future__ import annotations

import csv
import io

import pytest

from stocktide.api.csv_text import csv_bytes, harmless


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", " -x"])
def test_a_cell_that_begins_as_a_formula_does_gets_an_apostrophe(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "anna", "a=1", '{"a":-1}', "2026-11-30", "'", "5"])
def test_any_other_cell_stays(cell: str) -> None:
    assert harmless(cell) == cell


def test_quotes_commas_and_line_ends_come_back() -> None:
    rows = [["a,b", 'say "x"', "two\r\nlines"], ["", "店", "x"]]
    text = csv_bytes(("one", "two", "three"), rows).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["one", "two", "three"], *rows]
    assert text.endswith("\r\n")
