"""A SKU at a time or a version: `stocktide explain SKU --at …`.

In: the journal, a SKU, and a time or version. Out: its stock and its offers, as a table or JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, structs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stocktide.errors import CommandError
from stocktide.ops.explain.describe import MODE_NAMES
from stocktide.ops.explain.journal_access import JournalAccess
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.history.journal_search import Match
from stocktide.tables.history.sku_history import changes_of, sku_row_of
from stocktide.tables.ledger.records import Offer, SkuRecord
from stocktide.tables.views import stock_view
from stocktide.text_wrapping import name_lines

_COLUMNS = {
    "on_hand": "on hand",
    "committed": "committed",
    "physical": "physical",
    "locked": "held",
    "reserved": "reserved",
    "available": "available",
    "damaged": "damaged",
}
# Between columns; the least width of a name, however wide the numbers are.
_GAP = 2
_NAME_WIDTH_MIN = 12


class NoSnapshot(CommandError):
    """The SKU is known, but not as of that version or time."""


class SkuSnapshot(Struct, frozen=True):
    """A SKU as of a version. A batch publishes offers once, after its last change: `offers` are as of `offers_version`,
    and None where they are unknown."""

    record: SkuRecord
    batch: int
    offers: tuple[Offer, ...] | None
    offers_version: int


async def snapshot_at_version(journal: JournalAccess, sku: str, version: int) -> SkuSnapshot | None:
    """The snapshot; None for an unknown SKU. Raises NoSnapshot."""
    newest: int | None = None
    async for match in (await journal.backward(sku)).mentions():
        row = sku_row_of(match.decision, sku)
        if row is None:
            continue
        newest = newest or row.record.version
        if version > row.record.version:
            if newest == row.record.version:
                raise NoSnapshot(f"{sku} has no version {version} yet: the newest is {newest}")
            raise NoSnapshot(f"the log does not explain {sku}: it has no version {version}, though it has later ones")
        for change in changes_of(match.decision, sku):
            if change.version == version:
                return SkuSnapshot(change.record, match.decision.batch, row.offers, row.record.version)
        if version == row.record.version:
            return SkuSnapshot(row.record, match.decision.batch, row.offers, version)
    if newest is None:
        return None
    if version == 0:
        raise NoSnapshot(f"at version 0 {sku} was not known yet")
    raise NoSnapshot(f"version {version} of {sku} lies before what the journal keeps")


async def snapshot_at_time(journal: JournalAccess, sku: str, at_ms: int) -> SkuSnapshot | None:
    """The same as of a time in ms."""
    oldest: Match | None = None
    backward = await journal.backward(sku, at_ms)
    async for match in backward.mentions():
        row = sku_row_of(match.decision, sku)
        if row is None:
            continue
        if match.decision.at <= at_ms:
            return SkuSnapshot(row.record, match.decision.batch, row.offers, row.record.version)
        oldest = match
    if oldest is None:
        # Nothing before in the part that was read: the SKU may be unknown.
        async for match in journal.search_forward(sku, at_ms):
            if sku_row_of(match.decision, sku) is not None:
                raise _not_yet(sku, at_ms) if journal.is_untrimmed else _not_kept(sku, at_ms)
        return None
    return _before(oldest, sku, at_ms, backward.oldest_at)


def _before(oldest: Match, sku: str, at_ms: int, kept_since: int | None) -> SkuSnapshot:
    """The snapshot before the oldest match that is kept."""
    changes = changes_of(oldest.decision, sku)
    if changes and changes[0].version == 1:
        raise _not_yet(sku, at_ms)
    if kept_since is None or at_ms < kept_since:
        raise _not_kept(sku, at_ms)
    row = sku_row_of(oldest.decision, sku)
    assert row is not None
    record, version = row.record, row.record.version
    if changes:
        version = changes[0].version - 1
        record = structs.replace(record, version=version, counters=changes[0].before)
    return SkuSnapshot(structs.replace(record, at=at_ms), oldest.decision.batch, None, version)


def _not_yet(sku: str, at_ms: int) -> NoSnapshot:
    return NoSnapshot(f"at {rfc3339(at_ms)} {sku} was not known yet")


def _not_kept(sku: str, at_ms: int) -> NoSnapshot:
    return NoSnapshot(f"{rfc3339(at_ms)} lies before what the journal keeps of {sku}")


def snapshot_view(sku: str, standing: SkuSnapshot) -> dict[str, Any]:
    """As JSON, like the response of `GET /v1/stock/{sku}` at that time."""
    found = structs.asdict(stock_view(sku, standing.record, standing.offers or ()))
    view = {name: value for name, value in found.items() if value is not UNSET}
    if standing.offers is None:
        view["channels"] = None
    return {**view, "batch": standing.batch, "channels_as_of_version": standing.offers_version}


def render_snapshot(console: Console, sku: str, standing: SkuSnapshot, warehouse: str | None) -> None:
    """Print tables on the console."""
    view = stock_view(sku, standing.record, standing.offers or ())
    head = Text.assemble((sku, "bold"), f" at version {view.version}, which it had since {view.as_of}")
    console.print(head, highlight=False)
    places = view.warehouses if warehouse is None else {warehouse: view.warehouses[warehouse]}
    rows = [(place, *(str(getattr(numbers, name)) for name in _COLUMNS)) for place, numbers in places.items()]
    totals = ("in all", *(str(getattr(view, name)) for name in _COLUMNS))
    console.print(_table(console, ("", *_COLUMNS.values()), rows, totals if warehouse is None else None))
    if warehouse is None:
        if view.short or view.preordered or view.incoming:
            waiting = f"short {view.short}, preordered {view.preordered}, incoming {view.incoming}"
            console.print(waiting, highlight=False)
        _render_channels(console, standing)


def _render_channels(console: Console, standing: SkuSnapshot) -> None:
    console.print()
    if standing.offers is None:
        console.print("what channels might sell then is not kept")
        return
    if standing.offers_version != standing.record.version:
        console.print(f"channels as of version {standing.offers_version}, to which its batch led:", highlight=False)
    rows = [
        (offer.channel, MODE_NAMES.get(offer.mode, offer.mode), str(offer.quantity), str(offer.preorder_remaining))
        for offer in standing.offers
    ]
    heads = ("channel", "mode", "to sell", "to preorder")
    console.print(_table(console, heads, rows) if rows else "no channel is known yet")


def _table(
    console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], totals: Sequence[str] | None = None
) -> Table:
    """Names in the first column wrap between words; numbers are never broken."""
    columns = list(zip(*(heads, *rows, *([totals] if totals else [])), strict=True))
    beside = sum(max(map(len, column)) + _GAP for column in columns[1:])
    room = max(_NAME_WIDTH_MIN, console.width - beside)
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place == 0 or head == "mode" else "right", no_wrap=True)
    for name, *cells in rows:
        table.add_row(Text("\n".join(name_lines(name, room))), *map(Text, cells))
    if totals:
        table.add_row(*totals, style="bold")
    return table
