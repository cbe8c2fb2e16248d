"""`stocktide explain SKU`: every change of a SKU with its cause and the running numbers, from the journal alone.

In: settings, a SKU, and the wanted entry of its history. Out: a table or JSON, and an exit status: 1 where the log does
not explain something (or a CommandError: it does not reach back far enough). NotFound for an unknown SKU or warehouse.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs
from rich.console import Console

from stocktide.errors import NotFound
from stocktide.ops.explain.journal_access import JournalAccess
from stocktide.ops.explain.render import ChangeFilter, JsonRenderer, TableRenderer
from stocktide.ops.explain.snapshot import (
    render_snapshot,
    snapshot_at_time,
    snapshot_at_version,
    snapshot_view,
)
from stocktide.progress import announce_if_slow, echo_on_terminal
from stocktide.settings import Settings
from stocktide.streams.contract.documents import encode
from stocktide.tables.history.journal_search import Match
from stocktide.tables.history.sku_history import (
    HistoryEntry,
    HistoryStart,
    SkuChange,
    SkuHistory,
    changes_of,
    sku_row_of,
)
from stocktide.tables.ledger.records import SkuRecord
from stocktide.wait_for_servers import wait_for_kafka

UNEXPLAINED = 1


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """A snapshot at a version or a time (ms), else the history: since a time (ms), the newest `limit` changes, those of
    one warehouse."""

    sku: str
    at_version: int | None = None
    at_ms: int | None = None
    since: int | None = None
    limit: int | None = None
    warehouse: str | None = None
    as_json: bool = False


def run(settings: Settings, options: ExplainOptions) -> int:
    """Print it on standard output; the exit status. Raises CommandError, KafkaError, TakeoverError."""
    return asyncio.run(explain(settings, options))


async def explain(settings: Settings, options: ExplainOptions) -> int:
    """The same within a running loop."""
    access = settings.kafka_access()
    await wait_for_kafka(settings.kafka, **access)
    journal = JournalAccess(settings.kafka, settings.app_id, access)
    try:
        async with announce_if_slow(echo_on_terminal, f"reading the journal for {options.sku}"):
            await journal.open()
            if options.at_version is not None or options.at_ms is not None:
                return await _explain_snapshot(journal, options)
            return await _explain_history(journal, options)
    finally:
        await journal.close()


async def _explain_snapshot(journal: JournalAccess, options: ExplainOptions) -> int:
    if options.at_version is not None:
        found = await snapshot_at_version(journal, options.sku, options.at_version)
    else:
        found = await snapshot_at_time(journal, options.sku, options.at_ms or 0)
    _check_known(options, None if found is None else found.record)
    assert found is not None
    if options.as_json:
        sys.stdout.buffer.write(encode(snapshot_view(options.sku, found)) + b"\n")
    else:
        render_snapshot(Console(), options.sku, found, options.warehouse)
    return 0


async def _explain_history(journal: JournalAccess, options: ExplainOptions) -> int:
    wanted = ChangeFilter(options.sku, options.since, options.limit, options.warehouse)
    renderer = JsonRenderer(wanted) if options.as_json else TableRenderer(wanted, Console())
    history = SkuHistory(options.sku)
    if options.limit is None:
        async for match in journal.search_forward(options.sku, options.since):
            for entry in history.follow(match.decision, match.term, match.owner):
                renderer.add(entry)
    else:
        matches = await _newest(journal, wanted, options.limit)
        entries = [entry for each in matches for entry in history.follow(each.decision, each.term, each.owner)]
        for entry in _last(entries, wanted, options.limit):
            renderer.add(entry)
    if history.record is None and options.since is not None:
        # Without a change since then, the newest one has the numbers.
        for match in await _newest(journal, replace(wanted, since=None, warehouse=None), 1):
            history.follow(match.decision, match.term, match.owner)
    _check_known(options, history.record)
    renderer.end(history)
    return UNEXPLAINED if history.breaks else 0


async def _newest(journal: JournalAccess, wanted: ChangeFilter, count: int) -> list[Match]:
    """The newest matches with `count` wanted changes, oldest first; fewer if there are not so many."""
    found: list[Match] = []
    backward = await journal.backward(wanted.sku)
    async for match in backward.mentions():
        if sku_row_of(match.decision, wanted.sku) is None:
            continue
        if wanted.since is not None and match.decision.at < wanted.since and found:
            break
        found.append(match)
        count -= sum(wanted.matches(change) for change in changes_of(match.decision, wanted.sku))
        if count <= 0:
            break
    return found[::-1]


def _last(entries: Sequence[HistoryEntry], wanted: ChangeFilter, count: int) -> Sequence[HistoryEntry]:
    """The entries from the `count`-th last wanted change on."""
    shown = [index for index, entry in enumerate(entries) if isinstance(entry, SkuChange) and wanted.matches(entry)]
    if len(shown) <= count:
        return entries
    first = entries[shown[-count]]
    assert isinstance(first, SkuChange)
    record = structs.replace(first.record, counters=first.before, version=first.version - 1)
    return (HistoryStart(first.sku, False, first.at, record), *entries[shown[-count] :])


def _check_known(options: ExplainOptions, record: SkuRecord | None) -> None:
    if record is None:
        raise NotFound(f"the log knows no SKU {options.sku!r}: no warehouse, announcement or policy has named it")
    if options.warehouse is not None and options.warehouse not in record.warehouses:
        places = ", ".join(record.warehouses) or "none yet"
        raise NotFound(f"{options.sku} was never in warehouse {options.warehouse!r}; it was in: {places}")
