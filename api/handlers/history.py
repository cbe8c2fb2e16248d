"""The history of a SKU over HTTP: its changes from the journal, newest first, by page.

In: a SKU and a cursor. Out: changes with their causes and the totals after each. The journal may be long and changes of
the SKU rare, so one request reads a bounded part; a page that ends there is marked, and `next` continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page, parse_since
from stocktide.api.requests import check_name, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import StockChange, StockHistory
from stocktide.streams.journal.log import JournalLog
from stocktide.streams.journal.record import Position
from stocktide.tables.history.journal_search import BackwardSearch, JournalCursor, JournalReadStalled, ReadBudget
from stocktide.tables.history.sku_history import change_view, changes_of
from stocktide.tables.ledger.client import Ledger

PAGE_CHANGES_DEFAULT = 50
PAGE_CHANGES_MAX = 500
# The limits of one request: a few windows, well within its deadline.
SCAN_BYTES_MAX = 64 * 1024 * 1024
SCAN_SECONDS_MAX = 2.0
# Concurrent readers of the journal: each needs time of the loop, which also serves orders, and some tens of MiB.
SCANS_MAX = 4

_Count = Annotated[int, Meta(ge=0, le=2**62)]


class HistoryCursor(Struct, frozen=True, array_like=True):
    """The end of a page: continue backward from the record before `offset`, which is `batch` with `token`, with the
    changes below `version`."""

    offset: _Count
    batch: _Count
    token: Annotated[str, Meta(max_length=64)]
    version: _Count


_ANY_VERSION = 2**62


class HistoryPage(Struct):
    """A page. `following`: the cursor of the next one; None if this is the last."""

    items: list[StockChange]
    following: HistoryCursor | None = None
    complete: bool = True


class HistoryHandler:
    """The handler of `/v1/stock/{sku}/history`. `open_log` makes a client of the journal for one request; `settled`
    returns the settled position."""

    def __init__(
        self,
        ledger: Ledger,
        reads: SettledReads,
        settled: Callable[[], Awaitable[Position | None]],
        open_log: Callable[[], JournalLog],
    ) -> None:
        self._ledger = ledger
        self._reads = reads
        self._settled = settled
        self._open_log = open_log
        self._scans = 0

    async def sku(self, request: web.Request) -> web.Response:
        """`GET /v1/stock/{sku}/history?limit=…&cursor=…&since=…`."""
        sku = request.match_info["sku"]
        parameters = _parse_parameters(sku, request)
        if isinstance(parameters, web.Response):
            return parameters
        limit, cursor, since = parameters
        deadline = self._reads.deadline()
        if await self._reads.settled(lambda: self._ledger.read_sku(sku), deadline) is None:
            return problems.unknown_sku()
        if self._scans >= SCANS_MAX:
            return problems.service_unavailable(
                "busy", "Other histories are being read; the same call may be sent again."
            )
        self._scans += 1
        try:
            async with asyncio.timeout_at(deadline):
                page = await self._page(sku, limit, cursor, since)
        except (KafkaError, JournalReadStalled) as error:
            return problems.service_unavailable("unavailable", f"The journal cannot be read now: {error}.")
        finally:
            self._scans -= 1
        following = None if page.following is None else encode_cursor(page.following)
        return problems.json_response(StockHistory(sku, page.items, following, page.complete))

    async def _page(self, sku: str, limit: int, cursor: HistoryCursor | None, since: int | None) -> HistoryPage:
        if cursor is None:
            position = await self._settled()
            if position is None:
                return HistoryPage([])
            anchor, below = JournalCursor.of(position), None
        else:
            anchor, below = JournalCursor(cursor.offset, cursor.batch, cursor.token), cursor.version
        log = self._open_log()
        try:
            reader = BackwardSearch(log, anchor, sku, ReadBudget(SCAN_BYTES_MAX, SCAN_SECONDS_MAX))
            return await _read_page(reader, sku, limit, below, since)
        finally:
            await log.close()


async def _read_page(reader: BackwardSearch, sku: str, limit: int, below: int | None, since: int | None) -> HistoryPage:
    page = HistoryPage([])
    async for match in reader.mentions():
        for change in reversed(changes_of(match.decision, sku)):
            if below is not None and change.version >= below:
                continue
            if since is not None and change.at < since:
                return page
            page.items.append(change_view(change))
            below = change.version
            if below > 1 and len(page.items) == limit:
                page.following = HistoryCursor(*_fields(match.again), below)
                return page
        if below == 1 or (since is not None and match.decision.at < since):
            return page  # there are no earlier changes
        await asyncio.sleep(0)  # a large batch takes long to decode
    reached_since = since is not None and reader.oldest_at is not None and reader.oldest_at < since
    if not reader.ended and not reached_since:
        page.complete = False
        page.following = HistoryCursor(*_fields(reader.anchor), _ANY_VERSION if below is None else below)
    return page


def _fields(anchor: JournalCursor) -> tuple[int, int, str]:
    return anchor.offset, anchor.batch, anchor.token


def _parse_parameters(sku: str, request: web.Request) -> tuple[int, HistoryCursor | None, int | None] | web.Response:
    """Limit, cursor and since (ms) of a query, or the problem."""
    if (invalid := check_name("sku", sku)) is not None:
        return invalid
    query = parse_query(request)
    page, since = parse_page(query, HistoryCursor, PAGE_CHANGES_DEFAULT, PAGE_CHANGES_MAX), parse_since(query)
    if isinstance(page, web.Response):
        return page
    return since if isinstance(since, web.Response) else (*page, since)
