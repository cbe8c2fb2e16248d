"""Who tells the story: as a table for a person, or as JSON.

In: the parts of a story, in order. Out: lines on a console, or one JSON document on standard output.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.style import Style

from stocktide.ops.explain.describe import (
    describe_break,
    describe_change,
    describe_deviation,
    describe_mode_change,
    describe_takeovers,
)
from stocktide.ops.explain.table import HistoryTable
from stocktide.tables.history.sku_history import (
    HistoryEntry,
    HistoryStart,
    Inconsistency,
    SkuChange,
    SkuHistory,
    Takeovers,
    change_view,
)
from stocktide.tables.ledger.records import SkuRecord
from stocktide.tables.views import rfc3339, split_counter, stock_view

_LEFT_OUT = "earlier changes are left out; it stood at"
_NOT_KEPT = "what lay before is not kept; it stood at"


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes of a SKU are shown."""

    sku: str
    since: int | None = None
    limit: int | None = None
    warehouse: str | None = None

    def shows(self, change: SkuChange) -> bool:
        """Whether this one is."""
        if self.since is not None and change.at < self.since:
            return False
        return self.warehouse is None or any(split_counter(name)[1] == self.warehouse for name in change.deltas)


class TableRenderer:
    """Tells as it comes: a long story needs no memory."""

    def __init__(self, wanted: ChangeFilter, console: Console) -> None:
        self._wanted = wanted
        self._table = HistoryTable(console, wanted.sku, wanted.warehouse)
        self._opening: HistoryStart | None = None
        self._takeovers: list[Takeovers] = []
        self._hidden = 0
        self._shown = 0

    def take(self, part: HistoryEntry) -> None:
        """The next part."""
        match part:
            case HistoryStart():
                self._opening = part
            case Takeovers():
                self._takeovers.append(part)
            case Inconsistency():
                self._begin(None)
                self._table.broken(part)
            case SkuChange() if self._wanted.shows(part):
                self._begin(part)
                for takeovers in self._takeovers:
                    self._table.takeovers(takeovers)
                self._takeovers.clear()
                self._table.change(part)
                self._shown += 1
            case SkuChange():
                self._hidden += 1
                self._takeovers.clear()

    def _begin(self, first: SkuChange | None) -> None:
        """Before the first line: where the story begins."""
        if self._opening is None:
            return
        self._table.head()
        asked = self._wanted.since is not None or self._wanted.limit is not None
        if first is not None and (self._stood_before(first) or not self._opening.known):
            words = _LEFT_OUT if asked else _NOT_KEPT
            self._table.stood(words, SkuRecord(first.version - 1, first.at, first.before, first.record.warehouses))
        self._opening = None

    def _stood_before(self, first: SkuChange) -> bool:
        """Whether there was anything before the first change that is shown."""
        places = (split_counter(name)[1] for name in first.before)
        return any(self._wanted.warehouse in (None, place) for place in places)

    def end(self, story: SkuHistory) -> None:
        """The sum of it."""
        assert story.record is not None
        if not self._shown:
            self._begin(None)
            if self._wanted.since is not None and not self._hidden:
                self._table.head()
            self._table.stood("no change to show; it stands at", story.record)
        table = self._table
        table.line()
        if story.repaired:
            table.line(f"{_times(story.repaired)} the log did not explain what was there; it was repaired since")
        if story.breaks:
            table.line(
                f"{_times(story.breaks)} the log does not explain what was there: see the lines above, and run "
                "`stocktide audit`",
                Style(color="red", bold=True),
            )
        elif self._shown:
            table.line(f"{_changes(self._shown)}; each follows from the one before.")
        table.line(f"now at version {story.record.version}, since {rfc3339(story.record.at)}:")
        table.offers(story.offers)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count} changes"


class JsonRenderer:
    """Tells all at once, in the end."""

    def __init__(self, wanted: ChangeFilter) -> None:
        self._wanted = wanted
        self._opening: SkuRecord | None = None
        self._known = False
        self._changes: list[dict[str, Any]] = []
        self._takeovers: list[Takeovers] = []
        self._breaks: list[dict[str, Any]] = []

    def take(self, part: HistoryEntry) -> None:
        """The next part."""
        match part:
            case HistoryStart(known=known, record=record):
                self._opening, self._known = record, known
            case Takeovers():
                self._takeovers.append(part)
            case Inconsistency():
                self._breaks.append({"batch": part.batch, "at": rfc3339(part.at), "told": describe_break(part)})
            case SkuChange() if self._wanted.shows(part):
                if not self._changes:
                    first = SkuRecord(part.version - 1, part.at, part.before, part.record.warehouses)
                    self._known, self._opening = self._known and part.version == 1, first
                self._changes.append(self._item(part))
                self._takeovers.clear()
            case SkuChange():
                self._takeovers.clear()

    def _item(self, change: SkuChange) -> dict[str, Any]:
        notes = [describe_takeovers(takeovers) for takeovers in self._takeovers]
        notes += [describe_mode_change(mode) for mode in change.modes]
        if change.strayed:
            notes.append(describe_deviation(change))
        return {
            **change_view(change),
            "warehouses": change.view["warehouses"],
            "told": describe_change(change),
            "notes": notes,
        }

    def end(self, story: SkuHistory) -> None:
        """The whole of it."""
        assert story.record is not None
        opening = self._opening
        document = {
            "sku": self._wanted.sku,
            "from_the_beginning": self._known,
            "stood_at": None if opening is None else stock_view(self._wanted.sku, opening, ()),
            "changes": self._changes,
            "unexplained": self._breaks,
            "explained": not story.breaks,
            "now": stock_view(self._wanted.sku, story.record, story.offers),
        }
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
