"""Made-up files of Online Retail for tests: read, or refused with a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stocktide.loadtest.workload import retail
from stocktide.loadtest.workload.retail import FileFormat, Invoice, RetailError

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
Written = Callable[..., Path]


def invoices(path: Path, form: FileFormat = retail.PLAIN) -> list[Invoice]:
    return list(retail.read(path, form))


def refusal(path: Path, form: FileFormat = retail.PLAIN) -> str:
    """The message with which a file is refused."""
    with pytest.raises(RetailError) as error:
        invoices(path, form)
    return str(error.value)
