"""The report of a replay: a table on a console, and JSON.

In: counts. Out: `as_json()`, and `show()` on a console.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.loadtest.replay.stock_model import StockDifference

# The JSON report has all of them.
DIFFERENCES_SHOWN_MAX = 20
MISSING_SHOWN_MAX = 10
NOTHING_CHANGED = "nothing changed: every event was known already"


@dataclass(slots=True)
class ReplayReport:
    """The counts of one replay. `lines` and `units` are those of the orders; `skipped` are rows.

    `ragged_rows`: rows with another number of fields than the header that were read; `ragged_first`: the first of them.
    """

    file: str
    door: str
    until: str
    opening: int | None
    rows: int = 0
    invoices: int = 0
    orders: int = 0
    lines: int = 0
    units: int = 0
    first_at: str | None = None
    last_at: str | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    ragged_rows: int = 0
    ragged_first: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    placings: dict[str, int] = field(default_factory=dict)
    movements: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    stopped: str | None = None
    changed: bool = False
    confirmed: bool = False
    undecodable_rows: int = 0
    skus: int = 0
    differences: list[StockDifference] = field(default_factory=list)

    @property
    def orders_per_second(self) -> float:
        """Orders per second, from the first one sent to the last outcome."""
        return self.orders / self.seconds if self.seconds else 0.0

    @property
    def ok(self) -> bool:
        """Whether it finished, every event has an outcome and every number is as expected."""
        return not (self.differences or self.missing or self.undecodable_rows or self.stopped)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        plain = asdict(self)
        del plain["differences"], plain["skus"]
        plain["seconds"] = round(self.seconds, 3)
        plain["orders_per_second"] = round(self.orders_per_second, 1)
        plain["check"] = {
            "ok": self.ok,
            "skus": self.skus,
            "differences": [msgspec.to_builtins(difference) for difference in self.differences],
        }
        return plain

    def show(self, console: Console) -> None:
        """Print the table, then each difference and missing outcome."""
        table = Table(title=f"replay of {self.file}", show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, Text(value))
        console.print(table)
        if not self.changed and self.confirmed and not self.missing:
            console.print(NOTHING_CHANGED, style="bold")
        for difference in self.differences[:DIFFERENCES_SHOWN_MAX]:
            console.print(
                f"{difference.sku}: {difference.field} is {difference.actual}, expected {difference.expected}",
                style="red",
                markup=False,
            )
        if len(self.differences) > DIFFERENCES_SHOWN_MAX:
            console.print(f"... and {len(self.differences) - DIFFERENCES_SHOWN_MAX} more", style="red")
        if self.stopped:
            console.print(self.stopped, style="red", markup=False)
        if self.missing:
            some = ", ".join(self.missing[:MISSING_SHOWN_MAX])
            more = ", ..." if len(self.missing) > MISSING_SHOWN_MAX else ""
            console.print(f"no final answer for {len(self.missing):,}: {some}{more}", style="red", markup=False)

    def _rows(self) -> list[tuple[str, str]]:
        verdict = f"{len(self.differences)} differences" if self.differences else "ok"
        check = "not done" if self.stopped else f"{self.skus:,} SKUs compared with GET /v1/stock: {verdict}"
        rows = [
            ("invoices", f"{self.invoices:,} with {self.rows:,} rows"),
            ("dates", f"{(self.first_at or 'none')[:10]} to {(self.last_at or 'none')[:10]}"),
            ("orders", f"{self.orders:,} with {self.lines:,} lines, {self.units:,} units"),
            ("orders ended as", _counts(self.outcomes)),
            ("orders placed as", _counts(self.placings)),
            ("movements", _counts(self.movements)),
            ("skipped rows", _counts(self.skipped)),
            *([("ragged rows", self._ragged())] if self.ragged_rows else []),
            ("dead letters", _counts(self.dead_letters)),
            ("time", f"{self.seconds:.1f} s, {self.orders_per_second:,.0f} orders/s by {self.door}"),
            ("check", check),
        ]
        if self.undecodable_rows:
            rows.append(("unreadable rows", f"{self.undecodable_rows:,}"))
        return rows

    def _ragged(self) -> str:
        """The count of ragged rows, and the first ones, a line each."""
        more = self.ragged_rows - len(self.ragged_first)
        return "\n".join(
            [f"{self.ragged_rows:,}, read nevertheless:", *self.ragged_first, *([f"and {more:,} more"] if more else [])]
        )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
