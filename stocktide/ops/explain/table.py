"""The story of a SKU as a table on the console, a few lines a change.

In: parts of a story. Out: lines. The first line of a change has what happened and the numbers after it; below it each
place where something moved, with its own numbers where the SKU is in more than one warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from stocktide.ops.explain.describe import (
    describe_break,
    describe_change,
    describe_deltas,
    describe_deviation,
    describe_mode_change,
    describe_offer,
    describe_takeovers,
)
from stocktide.tables.history.sku_history import Inconsistency, SkuChange, Takeovers
from stocktide.tables.ledger.records import Offer, SkuRecord
from stocktide.tables.views import rfc3339, stock_view

Numbers = Mapping[str, int]
# A number of the view, its heading and the column's width: a million units fit, and more push the rest aside.
_COLUMNS = (
    ("on_hand", "on hand", 8),
    ("locked", "held", 8),
    ("committed", "committed", 10),
    ("available", "available", 10),
)
_NUMBERS_WIDTH = sum(width for _, _, width in _COLUMNS)
_TIME_WIDTH = 10
# Narrower text is unreadable, wider lines are hard to follow to their numbers.
_WIDTH_MIN, _WIDTH_MAX = 72, 120
_DIM, _WARN, _PLAIN = Style(dim=True), Style(color="red", bold=True), Style.null()


class HistoryTable:
    """Prints on `console`. `warehouse`: its numbers only, instead of those over all."""

    def __init__(self, console: Console, sku: str, warehouse: str | None = None) -> None:
        self._console = console
        self._sku = sku
        self._warehouse = warehouse
        width = min(max(console.width, _WIDTH_MIN), _WIDTH_MAX)
        self._text_width = width - _TIME_WIDTH - _NUMBERS_WIDTH
        self._day = ""

    def head(self) -> None:
        """Whose story it is, and the columns."""
        place = f" at {self._warehouse}" if self._warehouse else ""
        self._say(Text(f"{self._sku}{place}, times in UTC", Style(bold=True)))
        heading = "".join(title.rjust(width) for _, title, width in _COLUMNS)
        text = "time".ljust(_TIME_WIDTH) + "what happened".ljust(self._text_width) + heading
        self._say(Text(text, Style(underline=True)))

    def stood(self, words: str, record: SkuRecord) -> None:
        """A line with where the SKU stood."""
        numbers = self._numbers(stock_view(self._sku, record, ()))
        self._row("", Text(words, _DIM), numbers, _DIM)

    def change(self, change: SkuChange) -> None:
        """What happened, and the numbers after it."""
        self._date(change.at)
        view = change.view
        before = self._numbers(stock_view(self._sku, SkuRecord(0, 0, change.before), ()))
        self._row(rfc3339(change.at)[11:19], Text(describe_change(change)), self._numbers(view), _PLAIN, before)
        for place, words in describe_deltas(change.deltas):
            if self._warehouse in (None, place):
                several = self._warehouse is None and len(change.record.warehouses) > 1
                numbers = view["warehouses"].get(place) if several else None
                self._row("", Text(f"  {place}: {words}" if place else f"  {words}", _DIM), numbers, _DIM)
        if change.strayed:
            self.note(describe_deviation(change), _WARN)
        for mode in change.modes:
            self.note(describe_mode_change(mode), Style(color="yellow"))

    def takeovers(self, takeovers: Takeovers) -> None:
        """A worker took over."""
        self.note(describe_takeovers(takeovers), Style(color="cyan"), indent="")

    def broken(self, found: Inconsistency) -> None:
        """What the log does not explain."""
        self._date(found.at)
        self.note(describe_break(found), _WARN, indent="")

    def note(self, words: str, style: Style = _DIM, indent: str = "  ") -> None:
        """A line without numbers."""
        self._row("", Text(indent + words, style), None, style, wide=True)

    def offers(self, offers: tuple[Offer, ...]) -> None:
        """What each channel may sell."""
        for offer in offers:
            self._say(Text(f"  {offer.channel}: {describe_offer(offer)}"))

    def line(self, words: str = "", style: Style = _PLAIN) -> None:
        """A plain line."""
        self._say(Text(words, style))

    def _numbers(self, view: Mapping[str, Any]) -> Numbers:
        if self._warehouse is None:
            return view
        found: Numbers = view["warehouses"].get(self._warehouse, {})
        return found

    def _date(self, at: int) -> None:
        day = rfc3339(at)[:10]
        if day != self._day:
            self._day = day
            self._say(Text(day, Style(bold=True)))

    def _row(
        self,
        time: str,
        text: Text,
        numbers: Numbers | None,
        style: Style,
        before: Numbers | None = None,
        wide: bool = False,
    ) -> None:
        """A line, and more where the text does not fit. Numbers that differ from `before` stand out."""
        width = self._text_width + (_NUMBERS_WIDTH if wide else 0) - 1
        indent = len(text.plain) - len(text.plain.lstrip())
        first, *rest = text.wrap(self._console, width, overflow="fold") or [Text()]
        line = Text(time.ljust(_TIME_WIDTH)) + first
        if numbers is not None:
            line.append(" " * (_TIME_WIDTH + self._text_width - cell_len(line.plain)))
            for name, _, column in _COLUMNS:
                value = numbers.get(name, 0)
                moved = before is not None and before.get(name, 0) != value
                line.append(str(value).rjust(column), Style(bold=True) if moved else style)
        self._say(line)
        for more in rest:
            self._say(Text(" " * (_TIME_WIDTH + indent)) + Text(more.plain.lstrip(), more.style))

    def _say(self, line: Text) -> None:
        line.rstrip()
        # A file or a pipe gets whole lines; on a terminal names would break at its edge.
        self._console.print(line, soft_wrap=not self._console.is_terminal, highlight=False)
