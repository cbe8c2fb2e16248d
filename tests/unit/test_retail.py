"""The Online Retail file, read from small made-up files with the same columns."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from stocktide.loadtest.client.events import order_paid
from stocktide.loadtest.replay.replay import ReplayOptions, run
from stocktide.loadtest.workload import retail
from stocktide.loadtest.workload.retail import InvoiceItem
from tests.unit.retail_files import HEADER, Written, invoices, refusal


def row(
    number: str = "536365",
    code: str = "85123A",
    quantity: object = 6,
    at: str = "2010-12-01 08:26",
    country: str = "United Kingdom",
    price: str = "2.55",
) -> str:
    return f"{number},{code},A THING,{quantity},{at},{price},17850,{country}\n"


def test_rows_of_one_invoice_are_one_order_with_its_lines(written: Written) -> None:
    path = written(HEADER, row(), row(code="71053", quantity=8), row(number="536366"))
    first, second = invoices(path)
    assert first.ordered == (InvoiceItem("85123A", 6), InvoiceItem("71053", 8))
    assert (first.channel, first.at.isoformat()) == ("united-kingdom", "2010-12-01T08:26:00+00:00")
    assert second.number == "536366"


def test_an_invoice_that_goes_on_after_another_one_is_still_one_order(written: Written) -> None:
    path = written(HEADER, row(), row(number="536366"), row(code="71053"))
    first, second = invoices(path)
    assert first.ordered == (InvoiceItem("85123A", 6), InvoiceItem("71053", 6))
    assert second.number == "536366"


def test_a_gz_file_reads_as_the_plain_one_whatever_its_name(written: Written, tmp_path: Path) -> None:
    plain = written(HEADER, row(), row(number="536366"))
    packed = tmp_path / "no-suffix"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert invoices(packed) == invoices(plain)


def test_a_cancellation_brings_units_back_as_a_customer_return(written: Written) -> None:
    (invoice,) = invoices(written(HEADER, row(number="C536379", quantity=-3)))
    assert (invoice.ordered, invoice.returned) == ((), (InvoiceItem("85123A", 3),))
    (event,) = retail.invoice_movements(invoice)
    assert event["type"] == "stock.adjusted"
    assert (event["id"], event["reason"]) == ("retail-C536379-customer_return", "customer_return")
    assert event["lines"] == [{"sku": "85123A", "quantity": 3}]


def test_a_negative_row_without_c_is_a_write_off(written: Written) -> None:
    (invoice,) = invoices(written(HEADER, row(quantity=-10, price="0.0")))
    (event,) = retail.invoice_movements(invoice)
    assert (event["reason"], event["lines"]) == ("write_off", [{"sku": "85123A", "quantity": -10}])


def test_events_are_the_same_each_time_the_file_is_read(written: Written) -> None:
    path = written(HEADER, row(), row(number="C536379", quantity=-3))
    once, again = (
        [[*retail.invoice_orders(each), *retail.invoice_movements(each)] for each in invoices(path)] for _ in range(2)
    )
    assert once == again
    (placed,) = once[0]
    assert placed["order_id"] == "retail-536365"
    assert order_paid(placed)["id"] == "retail-536365-paid"


def test_an_invoice_of_more_lines_than_an_order_may_have_becomes_several_orders(written: Written) -> None:
    (invoice,) = invoices(written(HEADER, *[row(quantity=1)] * 2_001))
    first, second = retail.invoice_orders(invoice)
    assert (len(first["lines"]), len(second["lines"])) == (2_000, 1)
    assert (first["order_id"], second["order_id"]) == ("retail-536365", "retail-536365-part-2")


# The rows of an invoice, the units that are ordered, and what is skipped.
INVOICES: dict[str, tuple[list[str], list[tuple[str, int]], dict[str, int]]] = {
    "a code on two rows gives two lines": (
        [row(quantity=1), row(quantity=2)],
        [("85123A", 1), ("85123A", 2)],
        {},
    ),
    "a positive row is an order line whatever its price": ([row(price="0.0")], [("85123A", 6)], {}),
    "fees are skipped and counted by code": (
        [row(code=code) for code in ("85123A", "POST", "POST", "BANK CHARGES", "DCGS0076", "gift_0001_20")],
        [("85123A", 6), ("DCGS0076", 6), ("gift_0001_20", 6)],
        {"fee POST": 2, "fee BANK CHARGES": 1},
    ),
    "outer white space of a code is no part of it and case is": (
        [row(code="85123A "), row(code="85123a"), row(code="1 2")],
        [("85123A", 6), ("85123a", 6)],
        {"stock code is no SKU name": 1},
    ),
    "no quantity": ([row(), row(quantity="")], [("85123A", 6)], {"no quantity": 1}),
    "lines of one SKU that sum beyond the limit are skipped from there on": (
        [row(quantity=600_000), row(quantity=600_000)],
        [("85123A", 600_000)],
        {"quantity_too_large": 1},
    ),
    **{
        f"{quantity:.1e} is beyond the limit": ([row(quantity=quantity)], [], {"quantity_too_large": 1})
        for quantity in (1_000_001, -1_000_001, 10**30)
    },
}


@pytest.mark.parametrize(("rows", "ordered", "skipped"), INVOICES.values(), ids=INVOICES)
def test_each_row_is_ordered_or_skipped_with_a_reason(
    written: Written, rows: list[str], ordered: list[tuple[str, int]], skipped: dict[str, int]
) -> None:
    (invoice,) = invoices(written(HEADER, *rows))
    assert [(item.sku, item.quantity) for item in invoice.ordered] == ordered
    assert invoice.skipped == skipped


def test_a_survey_counts_the_file_and_lists_its_skus_once(written: Written) -> None:
    found = retail.survey(written(HEADER, row(), row(code="POST"), row(number="C1", quantity=-1)))
    assert (found.rows, found.invoices, found.orders) == (3, 2, 1)
    assert (list(found.skus), dict(found.skipped)) == (["85123A"], {"fee POST": 1})


def test_the_opening_stock_is_received_in_messages_of_at_most_2000_lines(written: Written) -> None:
    at = invoices(written(HEADER, row()))[0].at
    receipts = list(retail.opening_receipts([f"s{n}" for n in range(2_001)], 50, at))
    assert [len(receipt["lines"]) for receipt in receipts] == [2_000, 1]
    assert len({receipt["id"] for receipt in receipts}) == 2


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row(quantity="six"), "line 3: Quantity 'six' is no whole number"),
        (row(at="yesterday"), "line 3: InvoiceDate 'yesterday' is no date"),
        (row(number=""), "line 3: InvoiceNo '' cannot be part of an id"),
        (row(number="53 6365"), "line 3: InvoiceNo '53 6365' cannot be part of an id"),
    ],
)
def test_a_row_that_does_not_parse_is_named_by_its_line(written: Written, bad: str, says: str) -> None:
    assert says in refusal(written(HEADER, row(), bad))


def test_an_empty_file_and_one_without_rows_are_refused(written: Written) -> None:
    assert "the file is empty" in refusal(written(""))
    assert "a header and no rows" in refusal(written(HEADER))


def test_a_truncated_gz_is_refused(written: Written, tmp_path: Path) -> None:
    packed = gzip.compress(written(HEADER, *[row(number=str(n)) for n in range(5_000)]).read_bytes())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    assert re.search(r"cut\.csv\.gz: after line \d+: the gz file is cut off", refusal(path))


def test_a_missing_file_ends_the_command_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ReplayOptions(file=tmp_path / "none.csv")) == 2
    printed = capsys.readouterr().err
    assert "none.csv: there is no such file" in printed.replace("\n", "")
    assert "Traceback" not in printed


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"opening": 0}, "an opening of 0 units"),
        ({"speed": float("nan")}, "a speed of nan"),
        ({"kafka": None}, "it needs Kafka's HOST:PORT"),
        ({"report": Path("no/such/folder/r.json")}, "there is no folder"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_sent(
    written: Written, capsys: pytest.CaptureFixture[str], options: dict[str, object], says: str
) -> None:
    assert run(ReplayOptions(file=written(HEADER, row()), **options)) == 2  # type: ignore[arg-type]
    assert says in capsys.readouterr().err.replace("\n", " ")
