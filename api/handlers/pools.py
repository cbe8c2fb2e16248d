"""Pools over HTTP: what is set aside, for which purpose, in which warehouse, of which SKU.

In: filters and the bounds of a page in a query. Out: settled pools of the ledger, by SKU, as the contract shows them.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page
from stocktide.api.requests import check_name, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import Pool, PoolPage
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.ledger.client import Ledger

PAGE_POOLS_DEFAULT = 100
PAGE_POOLS_MAX = 1_000
# Calls of the ledger for one page: a filter that matches little ends the page early, with its cursor.
READS_MAX = 10


class PoolCursor(Struct, frozen=True, array_like=True):
    """A place in the order of pools: by SKU, then by purpose and warehouse of `<purpose>@<warehouse>`."""

    sku: str
    pool: str


class PoolFilter(Struct, frozen=True):
    """Which pools are shown; None: any."""

    purpose: str | None
    warehouse: str | None
    sku: str | None

    def matches(self, purpose: str, warehouse: str) -> bool:
        """Whether a pool of a SKU is shown."""
        return self.purpose in (None, purpose) and self.warehouse in (None, warehouse)


class PoolHandler:
    """The handler of `/v1/pools`."""

    def __init__(self, ledger: Ledger, reads: SettledReads) -> None:
        self._ledger = ledger
        self._reads = reads

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/pools?purpose=…&warehouse=…&sku=…&cursor=…&limit=…`."""
        query = parse_query(request)
        wanted = PoolFilter(query.get("purpose"), query.get("warehouse"), query.get("sku"))
        for name in PoolFilter.__struct_fields__:
            value = query.get(name)
            if value is not None and (invalid := check_name(name, value)) is not None:
                return invalid
        page = parse_page(query, PoolCursor, PAGE_POOLS_DEFAULT, PAGE_POOLS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        items, following = await self._page(wanted, cursor or PoolCursor(wanted.sku or "", ""), limit)
        return problems.json_response(PoolPage(items, None if following is None else encode_cursor(following)))

    async def _page(self, wanted: PoolFilter, after: PoolCursor, limit: int) -> tuple[list[Pool], PoolCursor | None]:
        items: list[Pool] = []
        size = limit if wanted.purpose is None and wanted.warehouse is None else PAGE_POOLS_MAX
        deadline, first, passed = self._reads.deadline(), after.sku, False
        for _ in range(READS_MAX):
            found = await self._reads.settled(partial(self._ledger.read_pools, first, size, passed), deadline)
            for row in found.rows:
                if wanted.sku not in (None, row.sku):
                    return items, None
                for name in sorted(row.pools, key=_order):
                    if row.sku == after.sku and _order(name) <= _order(after.pool):
                        continue
                    if len(items) == limit:
                        return items, after
                    after = PoolCursor(row.sku, name)
                    purpose, _, warehouse = name.partition("@")
                    if wanted.matches(purpose, warehouse):
                        items.append(_pool(row.sku, purpose, warehouse, row.pools[name]))
            if not found.more or not found.rows:
                return items, None
            first, passed = found.rows[-1].sku, True
        return items, after


def _order(pool: str) -> tuple[str, str]:
    purpose, _, warehouse = pool.partition("@")
    return purpose, warehouse


def _pool(sku: str, purpose: str, warehouse: str, held: tuple[int, int, int]) -> Pool:
    units, begins, ends = held
    return Pool(purpose, warehouse, sku, units, rfc3339(begins) if begins else None, rfc3339(ends) if ends else None)
