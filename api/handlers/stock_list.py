"""A list of SKUs over HTTP, for operators.

In: filters and the bounds of a page in a query. Out: settled numbers of the ledger; while it cannot be read, those of
the published tables. Each call looks at a bounded number of SKUs, so a page may be short or empty although others
follow.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web
from msgspec import UNSET, Struct
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page
from stocktide.api.requests import check_name, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.reads import PublishedTables, StaleReads
from stocktide.streams.contract.documents import StockAnswer, StockPage
from stocktide.streams.contract.events import Malformed, Name
from stocktide.tables.ledger import codes
from stocktide.tables.ledger.client import Ledger, LedgerRead, StockSkus
from stocktide.tables.views import stock_view

PAGE_SKUS_DEFAULT = 100
PAGE_SKUS_MAX = 500
# SKUs that one call of the ledger looks at, some 10 ms, where a filter may leave few of them.
FILTERED_SKUS = 250
# Calls of the ledger for one page.
READS_MAX = 8
# Digits of `below`, beyond any sum of stock.
BELOW_DIGITS_MAX = 12


class NameCursor(Struct, frozen=True, array_like=True, tag="names"):
    """A place in a pass over SKUs by name: after `sku`."""

    sku: Name


class StockFilter(Struct, frozen=True):
    """Which SKUs are shown; None: any. `mode`: that some channel is in. `below`: more than what is available."""

    skus: tuple[str, ...] | None
    prefix: str
    mode: str | None
    below: int | None

    @property
    def is_selective(self) -> bool:
        """Whether a SKU with the right name may be left out."""
        return self.mode is not None or self.below is not None

    def matches(self, stock: StockAnswer) -> bool:
        """Whether a SKU is shown."""
        if self.below is not None and stock.available >= self.below:
            return False
        return self.mode is None or any(each.mode == self.mode for each in stock.channels.values())


class StockListHandler:
    """The handler of `GET /v1/stock`."""

    def __init__(self, ledger: Ledger, reads: SettledReads, stale: StaleReads) -> None:
        self._ledger = ledger
        self._reads = reads
        self._stale = stale

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/stock?sku=…&prefix=…&mode=…&below=…&cursor=…&limit=…`; `sku` may be repeated."""
        query = parse_query(request)
        wanted = _parse_filter(query)
        if isinstance(wanted, web.Response):
            return wanted
        page = parse_page(query, NameCursor, PAGE_SKUS_DEFAULT, PAGE_SKUS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        after = "" if cursor is None else cursor.sku
        (items, last), is_stale = await self._stale.either(
            partial(self._of_ledger, wanted, after, limit),
            partial(_of_tables, self._stale.tables, wanted, after, limit),
        )
        following = encode_cursor(NameCursor(last)) if last else None
        return problems.json_response(StockPage(items, following, stale=is_stale or UNSET))

    async def _of_ledger(
        self, wanted: StockFilter, after: str, limit: int, deadline: float
    ) -> tuple[list[StockAnswer], str]:
        """SKUs after a name, and the last name that was looked at ("": none follows)."""
        items: list[StockAnswer] = []
        for _ in range(READS_MAX):
            size = FILTERED_SKUS if wanted.is_selective else limit - len(items)
            found = await self._reads.settled(partial(self._read, wanted, after, size), deadline)
            for row in found.rows:
                stock = stock_view(row.sku, row.record, row.offers)
                if not wanted.matches(stock):
                    continue
                if len(items) == limit:
                    return items, items[-1].sku
                items.append(stock)
            after = found.last
            if not after or len(items) == limit:
                break
        return items, after

    async def _read(self, wanted: StockFilter, after: str, size: int) -> LedgerRead[StockSkus]:
        if wanted.skus is None:
            return await self._ledger.read_stock(wanted.prefix, after, size)
        return await self._ledger.read_skus([sku for sku in wanted.skus if sku > after], size)


async def _of_tables(
    tables: PublishedTables, wanted: StockFilter, after: str, limit: int
) -> tuple[list[StockAnswer], str]:
    """The same of the tables."""
    await tables.stock.refresh()
    size = READS_MAX * FILTERED_SKUS if wanted.is_selective else limit
    if wanted.skus is None:
        names, more = await tables.stock.names(wanted.prefix, after, size)
    else:
        names, more = [sku for sku in wanted.skus if sku > after], False
    items: list[StockAnswer] = []
    for name in names:
        stock = tables.stock_row(name)
        if stock is None or not wanted.matches(stock):
            continue
        if len(items) == limit:
            return items, items[-1].sku
        items.append(stock)
    return items, names[-1] if more else ""


def _parse_filter(query: MultiDict[str]) -> StockFilter | web.Response:
    skus, prefix, mode = query.getall("sku", None), query.get("prefix"), query.get("mode")
    for field, values in (("sku", skus or ()), ("prefix", () if prefix is None else (prefix,))):
        for value in values:
            if (invalid := check_name(field, value)) is not None:
                return invalid
    if skus is not None and prefix is not None:
        return _invalid("either this or `sku`", "prefix")
    if skus is not None and len(skus) > PAGE_SKUS_MAX:
        return _invalid(f"at most {PAGE_SKUS_MAX} at once", "sku")
    if mode is not None and mode not in codes.MODES:
        return _invalid(f"one of {', '.join(codes.MODES)}", "mode")
    below = query.get("below")
    if below is not None:
        digits = below.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= BELOW_DIGITS_MAX):
            return _invalid("a whole number", "below")
    named = None if skus is None else tuple(sorted(set(skus)))
    return StockFilter(named, prefix or "", mode, None if below is None else int(below))


def _invalid(detail: str, path: str) -> web.Response:
    return problems.from_malformed(Malformed("invalid_field", detail, path))
