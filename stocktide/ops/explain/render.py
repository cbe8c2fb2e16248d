"""Renders the history of a SKU: a table on the console, or JSON.

In: the entries of the history in order. Out: lines on a console, or one JSON document on standard output. The first
line of a change has what happened and the numbers after it; below it each place where a counter moved, with its own
numbers where the SKU is in more than one warehouse.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from stocktide.ops.explain.describe import (
    describe_change,
    describe_deltas,
    describe_deviation,
    describe_inconsistency,
    describe_mode_change,
    describe_offer,
    describe_takeovers,
)
from stocktide.streams.contract.documents import StockAnswer, WarehouseStock, encode
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.history.sku_history import (
    HistoryEntry,
    HistoryStart,
    Inconsistency,
    SkuChange,
    SkuHistory,
    Takeovers,
    change_view,
)
from stocktide.tables.ledger.records import Offer, SkuRecord
from stocktide.tables.views import split_counter, stock_view

Numbers = StockAnswer | WarehouseStock
_NO_STOCK = WarehouseStock(0, 0, 0, 0, 0, 0, 0)
_LEFT_OUT = "earlier changes are left out; it stood at"
_NOT_KEPT = "what lay before is not kept; it stood at"
# Field of the stock view, heading, column width. A million units fit; longer numbers push the next column aside.
_COLUMNS = (
    ("on_hand", "on hand", 8),
    ("locked", "held", 8),
    ("committed", "committed", 10),
    ("available", "available", 10),
)
_NUMBERS_WIDTH = sum(width for _, _, width in _COLUMNS)
_TIME_WIDTH = 10
# Narrower text is unreadable; in wider lines the numbers are far from their text.
_WIDTH_MIN, _WIDTH_MAX = 72, 120
_DIM, _WARN, _PLAIN = Style(dim=True), Style(color="red", bold=True), Style.null()


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes of a SKU are shown."""

    sku: str
    since: int | None = None
    limit: int | None = None
    warehouse: str | None = None

    def matches(self, change: SkuChange) -> bool:
        """Whether a change is shown; the limit is not applied."""
        if self.since is not None and change.at < self.since:
            return False
        return self.warehouse is None or any(split_counter(name)[1] == self.warehouse for name in change.deltas)


class TableRenderer:
    """Prints each entry as it comes, so that a long history needs no memory."""

    def __init__(self, wanted: ChangeFilter, console: Console) -> None:
        self._filter = wanted
        self._table = HistoryTable(console, wanted.sku, wanted.warehouse)
        self._start: HistoryStart | None = None
        self._takeovers: list[Takeovers] = []
        self._hidden = 0
        self._shown = 0

    def add(self, entry: HistoryEntry) -> None:
        """Print the next entry."""
        match entry:
            case HistoryStart():
                self._start = entry
            case Takeovers():
                self._takeovers.append(entry)
            case Inconsistency():
                self._begin(None)
                self._table.inconsistency(entry)
            case SkuChange() if self._filter.matches(entry):
                self._begin(entry)
                for takeovers in self._takeovers:
                    self._table.note(describe_takeovers(takeovers), Style(color="cyan"), indent="")
                self._takeovers.clear()
                self._table.change(entry)
                self._shown += 1
            case SkuChange():
                self._hidden += 1
                self._takeovers.clear()

    def _begin(self, first: SkuChange | None) -> None:
        """Print the heading and the numbers before the first line."""
        if self._start is None:
            return
        self._table.heading()
        narrowed = self._filter.since is not None or self._filter.limit is not None
        if first is not None and (self._had_stock_before(first) or not self._start.known):
            text = _LEFT_OUT if narrowed else _NOT_KEPT
            self._table.numbers(text, SkuRecord(first.version - 1, first.at, first.before, first.record.warehouses))
        self._start = None

    def _had_stock_before(self, first: SkuChange) -> bool:
        places = (split_counter(name)[1] for name in first.before)
        return any(self._filter.warehouse in (None, place) for place in places)

    def end(self, history: SkuHistory) -> None:
        """Print the summary."""
        assert history.record is not None
        table = self._table
        if not self._shown:
            self._begin(None)
            if self._filter.since is not None and not self._hidden:
                table.heading()
            table.numbers("no change to show; it stands at", history.record)
        table.line()
        if history.repaired:
            table.line(f"{_times(history.repaired)} the log did not explain what was there; it was repaired since")
        if history.breaks:
            table.line(
                f"{_times(history.breaks)} the log does not explain what was there: see the lines above, and run "
                "`stocktide audit`",
                _WARN,
            )
        elif self._shown:
            table.line(f"{self._shown} change{'s' * (self._shown > 1)}; each follows from the one before.")
        table.line(f"now at version {history.record.version}, since {rfc3339(history.record.at)}:")
        table.offers(history.offers)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


class JsonRenderer:
    """Collects the entries and writes one document at the end."""

    def __init__(self, wanted: ChangeFilter) -> None:
        self._filter = wanted
        self._opening: SkuRecord | None = None
        self._known = False
        self._changes: list[dict[str, Any]] = []
        self._takeovers: list[Takeovers] = []
        self._inconsistencies: list[dict[str, Any]] = []

    def add(self, entry: HistoryEntry) -> None:
        """Collect the next entry."""
        match entry:
            case HistoryStart(known=known, record=record):
                self._opening, self._known = record, known
            case Takeovers():
                self._takeovers.append(entry)
            case Inconsistency():
                view = {"batch": entry.batch, "at": rfc3339(entry.at), "told": describe_inconsistency(entry)}
                self._inconsistencies.append(view)
            case SkuChange() if self._filter.matches(entry):
                if not self._changes:
                    first = SkuRecord(entry.version - 1, entry.at, entry.before, entry.record.warehouses)
                    self._known, self._opening = self._known and entry.version == 1, first
                self._changes.append(self._view(entry))
                self._takeovers.clear()
            case SkuChange():
                self._takeovers.clear()

    def _view(self, change: SkuChange) -> dict[str, Any]:
        notes = [describe_takeovers(takeovers) for takeovers in self._takeovers]
        notes += [describe_mode_change(mode) for mode in change.modes]
        if change.strayed:
            notes.append(describe_deviation(change))
        return {
            **to_builtins(change_view(change)),
            "warehouses": change.view.warehouses,
            "told": describe_change(change),
            "notes": notes,
        }

    def end(self, history: SkuHistory) -> None:
        """Write the document."""
        assert history.record is not None
        sku, opening = self._filter.sku, self._opening
        document = {
            "sku": sku,
            "from_the_beginning": self._known,
            "stood_at": None if opening is None else stock_view(sku, opening, ()),
            "changes": self._changes,
            "unexplained": self._inconsistencies,
            "explained": not history.breaks,
            "now": stock_view(sku, history.record, history.offers),
        }
        sys.stdout.buffer.write(encode(document) + b"\n")


class HistoryTable:
    """The lines of the table. `warehouse`: its numbers only, instead of those over all."""

    def __init__(self, console: Console, sku: str, warehouse: str | None = None) -> None:
        self._console = console
        self._sku = sku
        self._warehouse = warehouse
        width = min(max(console.width, _WIDTH_MIN), _WIDTH_MAX)
        self._text_width = width - _TIME_WIDTH - _NUMBERS_WIDTH
        self._day = ""

    def heading(self) -> None:
        """The SKU and the columns."""
        place = f" at {self._warehouse}" if self._warehouse else ""
        self._print(Text(f"{self._sku}{place}, times in UTC", Style(bold=True)))
        columns = "".join(title.rjust(width) for _, title, width in _COLUMNS)
        text = "time".ljust(_TIME_WIDTH) + "what happened".ljust(self._text_width) + columns
        self._print(Text(text, Style(underline=True)))

    def numbers(self, text: str, record: SkuRecord) -> None:
        """A text with the SKU's numbers."""
        self._row("", Text(text, _DIM), self._numbers(stock_view(self._sku, record, ())), _DIM)

    def change(self, change: SkuChange) -> None:
        """A change and the numbers after it."""
        self._date(change.at)
        view = change.view
        before = self._numbers(stock_view(self._sku, SkuRecord(0, 0, change.before), ()))
        time = rfc3339(change.at)[11:19]
        self._row(time, Text(describe_change(change)), self._numbers(view), _PLAIN, before)
        for place, text in describe_deltas(change):
            if self._warehouse in (None, place):
                several = self._warehouse is None and len(change.record.warehouses) > 1
                numbers = view.warehouses.get(place) if several else None
                self._row("", Text(f"  {place}: {text}" if place else f"  {text}", _DIM), numbers, _DIM)
        if change.strayed:
            self.note(describe_deviation(change), _WARN)
        for mode in change.modes:
            self.note(describe_mode_change(mode), Style(color="yellow"))

    def inconsistency(self, found: Inconsistency) -> None:
        """What the log does not explain."""
        self._date(found.at)
        self.note(describe_inconsistency(found), _WARN, indent="")

    def note(self, text: str, style: Style = _DIM, indent: str = "  ") -> None:
        """A text without numbers, as wide as the table."""
        self._row("", Text(indent + text, style), None, style, wide=True)

    def offers(self, offers: tuple[Offer, ...]) -> None:
        """What each channel may sell."""
        for offer in offers:
            self.line(f"  {offer.channel}: {describe_offer(offer)}")

    def line(self, text: str = "", style: Style = _PLAIN) -> None:
        """A text from the left edge."""
        self._print(Text(text, style))

    def _numbers(self, view: StockAnswer) -> Numbers:
        return view if self._warehouse is None else view.warehouses.get(self._warehouse, _NO_STOCK)

    def _date(self, at: int) -> None:
        day = rfc3339(at)[:10]
        if day != self._day:
            self._day = day
            self._print(Text(day, Style(bold=True)))

    def _row(
        self,
        time: str,
        text: Text,
        numbers: Numbers | None,
        style: Style,
        before: Numbers | None = None,
        wide: bool = False,
    ) -> None:
        """A row, on more lines where the text does not fit. Numbers that differ from `before` are bold."""
        width = self._text_width + (_NUMBERS_WIDTH if wide else 0) - 1
        indent = len(text.plain) - len(text.plain.lstrip())
        first, *rest = text.wrap(self._console, width, overflow="fold") or [Text()]
        line = Text(time.ljust(_TIME_WIDTH)) + first
        if numbers is not None:
            line.append(" " * (_TIME_WIDTH + self._text_width - cell_len(line.plain)))
            for name, _, column in _COLUMNS:
                value = getattr(numbers, name)
                changed = before is not None and getattr(before, name) != value
                line.append(str(value).rjust(column), Style(bold=True) if changed else style)
        self._print(line)
        for more in rest:
            self._print(Text(" " * (_TIME_WIDTH + indent)) + Text(more.plain.lstrip(), more.style))

    def _print(self, line: Text) -> None:
        line.rstrip()
        # A file or a pipe gets whole lines; on a terminal names would break at its edge.
        self._console.print(line, soft_wrap=not self._console.is_terminal, highlight=False)
