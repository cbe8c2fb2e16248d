"""Copies of Online Retail in other formats: dates, headers, delimiters, encodings, archives, and damaged files."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import re
import zipfile
from datetime import datetime
from pathlib import Path

import pytest

from stocktide.loadtest.replay.replay import ReplayOptions, run
from stocktide.loadtest.workload import retail, retail_rows
from stocktide.loadtest.workload.retail import FileFormat, FileSurvey, InvoiceItem
from stocktide.loadtest.workload.retail_dates import ORDERS, DateOrder, moment
from tests.unit.retail_files import HEADER, Written, invoices, refusal

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
SECOND_COLUMNS = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
# Made up like the data set: two orders, a cancellation, a write-off, a fee, unusual codes.
ROWS = (
    ("700001", "31000A", "RED LAMP, SMALL", "6", "2010-12-01 08:26", "2.55", "17850", "United Kingdom"),
    ("700001", "31001", 'BOX 12" OAK', "1200", "2010-12-01 08:26", "3.39", "17850", "United Kingdom"),
    ("700002", " 31002b ", "blue jar", "2", "2010-12-13 14:05", "1.25", "", "EIRE"),
    ("C700003", "31000A", "RED LAMP, SMALL", "-1", "2011-01-04 10:00", "2.55", "17850", "United Kingdom"),
    ("700004", "31001", "damages", "-3", "2011-01-04 10:01", "0", "", "United Kingdom"),
    ("A700005", "B", "Adjust bad debt", "1", "2011-05-31 15:59", "11062.06", "", "United Kingdom"),
)
ROW = "700001,31000A,RED LAMP,6,2010-12-01 08:26,2.55,17850,United Kingdom\n"
# The real file, if available: its rows have to be the same in every format, too.
REAL_FILE = os.environ.get("ONLINE_RETAIL_CSV_GZ")
REAL_ROWS = 5_000
Rows = tuple[tuple[str, ...], ...]


def rows_of(kind: str) -> Rows:
    """The made-up rows, or the first rows of the real file."""
    if kind == "composed":
        return ROWS
    if REAL_FILE is None:
        pytest.skip("ONLINE_RETAIL_CSV_GZ does not name the real file")
    with gzip.open(REAL_FILE, "rt", newline="") as text:
        return tuple(tuple(row) for row in itertools.islice(csv.reader(text), 1, REAL_ROWS + 1))


def as_csv(rows: Rows, header: tuple[str, ...] = COLUMNS, delimiter: str = ",", date: str = "%Y-%m-%d %H:%M") -> str:
    """The rows in another format."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([*row[:4], datetime.fromisoformat(row[4]).strftime(date), *row[5:]])
    return out.getvalue()


def summary_of(survey: FileSurvey) -> tuple[object, ...]:
    return survey.rows, survey.invoices, survey.orders, survey.skus, survey.first_at, survey.last_at, survey.skipped


@pytest.mark.parametrize("kind", ["composed", "real"])
@pytest.mark.parametrize(
    ("header", "delimiter", "dates", "date", "encoding"),
    [
        (COLUMNS, ",", "mdy", "%m/%d/%Y %H:%M", "utf-8"),
        (COLUMNS, ",", "mdy", "%-m/%-d/%y %-H:%M", "utf-8-sig"),
        (COLUMNS, ",", "dmy", "%d-%m-%Y %H:%M", "utf-8"),
        (COLUMNS, ";", "dmy", "%d.%m.%Y %H:%M:%S", "cp1252"),
        (SECOND_COLUMNS, ",", "iso", "%Y-%m-%d %H:%M:%S", "utf-8"),
        (SECOND_COLUMNS, ",", "iso", "%Y/%-m/%-d %-H:%M", "gb18030"),
        (SECOND_COLUMNS, "\t", "mdy", "%-m/%-d/%Y %I:%M %p", "utf-16"),
        (tuple(name.upper() for name in SECOND_COLUMNS), ";", "mdy", "%m-%d-%y %H:%M", "utf-16-le"),
    ],
)
def test_every_form_of_the_same_rows_gives_the_same_invoices_and_survey(
    kind: str, header: tuple[str, ...], delimiter: str, dates: DateOrder, date: str, encoding: str, written: Written
) -> None:
    rows = rows_of(kind)
    plain = written(as_csv(rows))
    expected, expected_survey = invoices(plain), summary_of(retail.survey(plain))
    form = FileFormat(dates, "utf-8" if encoding == "utf-8-sig" else encoding)
    copy = written(as_csv(rows, header, delimiter, date).encode(encoding))
    assert invoices(copy, form) == expected
    assert summary_of(retail.survey(copy, form)) == expected_survey
    assert retail.survey(copy, form).ragged.rows == 0


def test_the_composed_rows_are_what_they_look_like(written: Written) -> None:
    first, second, returned, written_off, fee = invoices(written(as_csv(ROWS)))
    assert first.ordered == (InvoiceItem("31000A", 6), InvoiceItem("31001", 1200))
    assert (second.ordered, second.channel) == ((InvoiceItem("31002b", 2),), "eire")
    assert (returned.returned, written_off.written_off) == ((InvoiceItem("31000A", 1),), (InvoiceItem("31001", 3),))
    assert (fee.ordered, fee.skipped) == ((), {"fee B": 1})


def test_columns_stand_in_any_order_and_others_are_ignored(written: Written) -> None:
    path = written(
        "\ufeff,country,Quantity,INVOICEDATE,stock code,Invoice No,Price,note\n0,France,3,2010-12-01,31000,7,1.0,x\n"
    )
    (invoice,) = invoices(path)
    assert (invoice.number, invoice.channel, invoice.ordered) == ("7", "france", (InvoiceItem("31000", 3),))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("Invoice,StockCode,Quantity,InvoiceDate", "the columns are Invoice, StockCode, Quantity, InvoiceDate; expec"),
        ("InvoiceNo|StockCode|Quantity|InvoiceDate|Country", "with commas, semicolons or tabs between them"),
        ("InvoiceNo,Invoice,StockCode,Quantity,InvoiceDate,Country", "line 1: more than one column is InvoiceNo"),
        ("x" * 20_000, "line 1: field larger than field limit"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error_in_line_1(header: str, says: str, written: Written) -> None:
    message = refusal(written(f"{header}\n1\n"))
    assert "line 1: " in message
    assert says in message


# Dates.


@pytest.mark.parametrize(
    ("text", "iso", "mdy", "dmy"),
    [
        ("2010-12-01 08:26", "2010-12-01T08:26", None, None),
        ("2010/12/1 8:26:59", "2010-12-01T08:26:59", None, None),
        ("2010-12-01", "2010-12-01T00:00", None, None),
        ("2010-12-01T08:26:00+08:00", "2010-12-01T00:26", None, None),
        ("12/1/10 8:26", None, "2010-12-01T08:26", "2010-01-12T08:26"),
        ("01-12-2010 08:26", None, "2010-01-12T08:26", "2010-12-01T08:26"),
        ("13.12.2010 08:26", None, None, "2010-12-13T08:26"),
        ("12/13/1999 11:59:01 pm", None, "1999-12-13T23:59:01", None),
        ("12/13/68 12:00 AM", None, "2068-12-13T00:00", None),
        ("12/13/69 12:00 PM", None, "1969-12-13T12:00", None),
        ("29/2/2010 1:00", None, None, None),
        ("29/2/2012 1:00", None, None, "2012-02-29T01:00"),
        ("12/1-2010 8:26", None, None, None),
        ("12/1/2010 24:00", None, None, None),
        ("12/1/2010 13:00 PM", None, None, None),
        ("12/1/010 8:26", None, None, None),
        ("٢٠١٠-12-01", None, None, None),
        ("40513.35", None, None, None),
    ],
)
def test_a_date_means_what_its_order_says(text: str, iso: str | None, mdy: str | None, dmy: str | None) -> None:
    for order, expected in zip(ORDERS, (iso, mdy, dmy), strict=True):
        found = moment(text, order)
        assert (found and found.replace(tzinfo=None)) == (expected and datetime.fromisoformat(expected)), order


@pytest.mark.parametrize(
    ("dates", "date", "says"),
    [
        (
            "iso",
            "12/1/10 8:26",
            "line 2: InvoiceDate is '12/1/10 8:26', and --dates is iso: with --dates mdy that is 1 December 2010, "
            "with --dates dmy that is 12 January 2010: only you can know which",
        ),
        ("iso", "12/31/10 8:26", "--dates is iso: with --dates mdy that is 31 December 2010"),
        ("mdy", "31.12.2010 8:26", "--dates is mdy: with --dates dmy that is 31 December 2010"),
        ("dmy", "2010-12-31 8:26", "--dates is dmy: with --dates iso that is 31 December 2010"),
        ("mdy", "40513", "line 2: InvoiceDate '40513' is no date like 12/1/2010 8:26"),
        ("mdy", "", "line 2: InvoiceDate '' is no date like 12/1/2010 8:26"),
    ],
)
def test_a_date_of_another_order_names_the_option(dates: DateOrder, date: str, says: str, written: Written) -> None:
    assert says in refusal(written(HEADER + ROW.replace("2010-12-01 08:26", date)), FileFormat(dates))


def test_a_file_that_changes_its_order_in_the_middle_is_an_error_at_that_line(written: Written) -> None:
    path = written(HEADER + ROW.replace("2010-12-01", "1/12/2010") + ROW.replace("2010-12-01", "13/12/2010"))
    assert re.search("line 3: .*with --dates dmy that is 13 December 2010", refusal(path, FileFormat("mdy")))


# Rows.


@pytest.mark.parametrize(
    ("written_as", "units"),
    [("6", 6), ("-6", -6), ("+6", 6), (" 6 ", 6), ("6.0", 6), ("-6.00", -6), ("1,000", 1000),
     ("-1,234,567.0", -1234567), ("6,0", 6), ("", None), ("  ", None)],
)  # fmt: skip
def test_a_quantity_is_a_whole_number_however_it_is_written(written_as: str, units: int | None) -> None:
    assert retail_rows.whole_number(written_as) == units


@pytest.mark.parametrize("written_as", ["6.5", "1e3", "1,00,000", "0x6", "٦", "six", "--6", "1_000", "."])
def test_what_is_no_whole_number_is_refused(written_as: str) -> None:
    with pytest.raises(ValueError, match="is no whole number"):
        retail_rows.whole_number(written_as)


def test_a_quantity_that_may_be_two_numbers_is_not_guessed(written: Written) -> None:
    with pytest.raises(ValueError, match=r"'1\.000' may be 1 or 1000"):
        retail_rows.whole_number("1.000")
    copy = as_csv(ROWS, delimiter=";").replace(";1200;", ";1,000;")
    assert "line 3: Quantity '1,000' may be 1 or 1000: write it without the separator" in refusal(written(copy))


def test_ragged_rows_are_read_where_that_is_certain_and_listed_with_their_lines(written: Written) -> None:
    path = written(
        HEADER
        + ROW
        + "700001,31001,RED LAMP,6,2010-12-01 08:26,2.55,17850\n"  # 3: no Country
        + "700001,31002,RED LAMP,6,2010-12-01 08:26\n"  # 4: nor price and customer
        + ROW.replace("31000A", "31003").rstrip() + ", ,\n"  # 5: blank ones more
        + "700001,31004,RED LAMP, SMALL, OLD,6,2010-12-01 08:26,2.55,17850,United Kingdom\n"  # 6: no quotes
        + "\n,,,,,,,\n"  # 7 and 8: blank
    )  # fmt: skip
    found = retail.survey(path)
    (invoice,) = invoices(path)
    assert [item.sku for item in invoice.ordered] == ["31000A", "31001", "31002", "31003", "31004"]
    assert invoice.channel == "united-kingdom"
    assert found.ragged.rows == 4
    assert [note.split(": ")[:2] for note in found.ragged.first] == [
        ["line 3", "7 fields; expected 8"],
        ["line 4", "5 fields; expected 8"],
        ["line 5", "10 fields; expected 8"],
        ["line 6", "10 fields; expected 8"],
    ]
    assert "the Description has the delimiter in it" in found.ragged.first[-1]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("700001,31000A\n", "line 3: 2 fields; expected 8: there is no Quantity"),
        ("700001,31000A,LAMP,6\n", "line 3: 4 fields; expected 8: there is no InvoiceDate"),
        (
            "700001,31000A,LAMP,6,2010-12-01 08:26,2,55,17850,France\n",
            "line 3: 9 fields; expected 8: it is not certain",
        ),
    ],
)
def test_a_ragged_row_that_may_mean_two_things_is_an_error_with_its_line(bad: str, says: str, written: Written) -> None:
    assert says in refusal(written(HEADER + ROW + bad))


def test_only_the_first_ragged_rows_are_kept(written: Written) -> None:
    path = written(HEADER + ROW + "700001,31000A,LAMP,1,2010-12-01 08:26\n" * 500)
    found = retail.survey(path).ragged
    assert (found.rows, len(found.first)) == (500, retail_rows.RAGGED_SHOWN_MAX)


# Quotes.

OPEN = '700002,31001,"BLUE JAR,6,2010-12-01 08:26,2.55,17850,United Kingdom\n'


@pytest.mark.parametrize(
    "rest",
    [
        ROW,  # to the end of the file
        ROW * 2_000,  # beyond the longest field
        ROW * 3 + '700003,31002,"RED LAMP, SMALL",6,2010-12-01 08:26,2.55,17850,France\n',  # closed by the next one
        '700003,31002,OAK BOX 12",6,2010-12-01 08:26,2.55,17850,France\n',  # closed at the end of a field
    ],
)
def test_a_quote_that_is_not_closed_is_an_error_at_the_line_where_it_opens(rest: str, written: Written) -> None:
    quoted = '700001,31000A,"RED ""BIG"" LAMP, SMALL",6,2010-12-01 08:26,2.55,17850,United Kingdom\n'
    assert "line 4: the quote that opens here is not closed" in refusal(written(HEADER + ROW + quoted + OPEN + rest))


def test_a_description_of_two_lines_is_read_and_lines_are_counted_on(written: Written) -> None:
    two = '700001,31000A,"RED LAMP\nSMALL ""ONE""",6,2010-12-01 08:26,2.55,17850,United Kingdom\n'
    (invoice,) = invoices(written(HEADER + two))
    assert invoice.ordered == (InvoiceItem("31000A", 6),)
    assert "line 4: Quantity 'x' is no whole number" in refusal(written(HEADER + two + ROW.replace(",6,", ",x,")))


def test_the_quote_is_found_in_the_line_of_its_row_where_it_opens(written: Written) -> None:
    row = '700001,31000A,"RED LAMP\nSMALL",6,2010-12-01 08:26,2.55,"17850,United Kingdom\n'
    assert "line 3: the quote that opens here is not closed: unexpected end of data" in refusal(written(HEADER + row))


# Encodings and packings.

CHINESE = ROW.replace("RED LAMP", "红色小台灯").replace("United Kingdom", "中国")
POUND = ROW.replace("RED LAMP", "£2 LAMP")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (HEADER.encode() + ROW.encode() + CHINESE.encode("gbk"), "line 3: the text is not UTF-8 but looks like GBK"),
        (HEADER.encode() + ROW.encode() * 99 + POUND.encode("latin-1"), "line 101: the text is not UTF-8 but looks li"),
        (HEADER.encode() + POUND.encode("latin-1"), "looks like Windows-1252 (Latin-1): save it as CSV UTF-8, or"),
        (HEADER.encode() + ROW.replace("United Kingdom", "Österreich").encode("cp1252"), "Windows-1252"),
        (HEADER.encode() + b"7,\x81\x00", "line 2: the text is not UTF-8: save it as CSV UTF-8, or name what it is"),
        ((HEADER + ROW).encode("utf-16"), "line 1: the file is UTF-16: save it as CSV UTF-8, or use --encoding utf-16"),
        ((HEADER + ROW).encode("utf-16-le"), "line 1: the file is UTF-16 without a byte order mark"),
        ((HEADER + ROW).encode("utf-16-be"), "or use --encoding utf-16-be"),
        ((HEADER + ROW).encode("utf-32"), "line 1: the file is UTF-32"),
        (gzip.compress((HEADER + ROW).encode("utf-16")), "line 1: the file is UTF-16"),
        ((HEADER + ROW).encode() + b"70000\x001", "line 3: it has a zero byte: the file is damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "is no CSV but an Excel workbook (xls)"),
        (b"BZh91AY&SY", "is no CSV but packed with bzip2: unpack it first"),
        (b"PK\x03\x04 and nothing", "the zip file is damaged"),
        (gzip.compress(b"x" * 10_000)[:10] + b"\xff" * 100, "the gz file is damaged"),
        ((HEADER + ROW).encode() + b"x" * 2_000_000, "line 3 is longer than 1,048,576 characters"),
    ],
)
def test_what_is_no_utf8_csv_is_named_as_what_it_is(content: bytes, says: str, written: Written) -> None:
    assert says in refusal(written(content))


def test_the_encoding_that_the_error_names_reads_the_file(written: Written) -> None:
    for text, encoding in ((CHINESE, "gb18030"), (POUND, "cp1252"), (CHINESE, "utf-16"), (CHINESE, "utf-16-le")):
        path = written((HEADER + text).encode(encoding))
        assert f"--encoding {encoding}" in refusal(path)
        assert invoices(path, FileFormat(encoding=encoding))[0].ordered == (InvoiceItem("31000A", 6),)


def test_bytes_that_are_not_of_the_named_encoding_are_an_error_with_their_line(written: Written) -> None:
    path = written(HEADER.encode() + ROW.encode() + POUND.encode("latin-1"))
    assert "line 3: the bytes are not gb18030" in refusal(path, FileFormat(encoding="gb18030"))


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_zip_with_one_csv_reads_as_that(tmp_path: Path) -> None:
    path = zipped(tmp_path / "retail.zip", {"data.csv": HEADER + ROW, "readme.txt": "about", "__MACOSX/._data.csv": ""})
    assert invoices(path)[0].ordered == (InvoiceItem("31000A", 6),)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.csv": "", "b.csv": ""}, "the zip holds 2 CSV files (a.csv, b.csv): unpack it and name the CSV"),
        ({"retail.xlsx": ""}, "the zip holds no CSV files (retail.xlsx): retail.xlsx is an Excel workbook"),
        ({"[Content_Types].xml": "", "xl/workbook.xml": ""}, "is no CSV but an Excel workbook (xlsx): save it as CSV"),
    ],
)
def test_a_zip_with_anything_else_is_named_as_what_it_is(members: dict[str, str], says: str, tmp_path: Path) -> None:
    assert says in refusal(zipped(tmp_path / "some.zip", members))


def test_a_zip_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "cut.zip", {"data.csv": HEADER + ROW})
    path.write_bytes(path.read_bytes()[:40])
    assert "the zip file is damaged" in refusal(path)


def test_an_unknown_encoding_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("klingon", "base64", "rot13"):
        assert run(ReplayOptions(file=tmp_path / "none.csv", encoding=name)) == 2
        assert f"--encoding '{name}' is no encoding" in capsys.readouterr().err
