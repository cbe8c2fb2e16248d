"""Lists of orders over HTTP: all of them, those that are short or at risk, and the queue of a SKU.

In: filters and the bounds of a page in a query. Out: settled orders of the ledger, as the contract shows them. The
ledger has no list of all orders: a pass goes through its keys, in no order, or through the SKUs. Each call does a
bounded part of the pass, so a page may be short or empty although others follow. While the ledger cannot be read, the
pages are those of the published tables.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.access.scopes import check_channel_filter
from stocktide.api.cursors import decode_cursor, encode_cursor, parse_page
from stocktide.api.requests import check_channel, check_name, parse_limit, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.pages import TableCursor, orders_of_tables
from stocktide.api.stale.reads import StaleReads
from stocktide.streams.contract.documents import ORDER_STATES, Order, OrderPage, QueuePage
from stocktide.streams.contract.events import Malformed
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.order_pages import EntryCursor, FoundOrder, KeyPage, SkuOrders
from stocktide.tables.ledger.records import OrderRecord
from stocktide.tables.views import is_order, order_view, queued_line

PAGE_ORDERS_DEFAULT = 100
PAGE_ORDERS_MAX = 500
# Calls of the ledger for one page, some ms each.
READS_MAX = 10
# Keys of the first call, which may all be orders that match: what does not fit into the page fits into its cursor.
FIRST_KEYS = 50
KEYS_MAX = 500
# Of order_ids in a cursor, which is part of a query (64 KiB).
LEFT_BYTES_MAX = 32 * 1024
# Their number: SCAN gives a few more keys than it is asked for.
LEFT_MAX = 2 * KEYS_MAX
# Redis refuses a greater cursor of SCAN.
CURSOR_MAX = 2**64 - 1


class KeyCursor(Struct, frozen=True, array_like=True, tag="keys"):
    """A place in a pass over the keys of a server: after `cursor` ("": the end), and before the orders `left`."""

    run_id: str = ""
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{0,20}$")] = "0"
    left: Annotated[tuple[str, ...], Meta(max_length=LEFT_MAX)] = ()

    def __post_init__(self) -> None:
        if self.cursor and int(self.cursor) > CURSOR_MAX:
            raise ValueError("no cursor of SCAN")

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return not self.cursor and not self.left

    def after(self, found: KeyPage, over: tuple[str, ...]) -> KeyCursor:
        """The place after what was found from here, without the orders `over`."""
        if not self.left:
            cursor = "" if found.cursor == "0" else found.cursor
        else:
            cursor = self.cursor if found.run_id == self.run_id else "0"
        return KeyCursor(found.run_id, cursor, over + found.left)

    @property
    def fits(self) -> bool:
        """Whether it can be part of a query."""
        return sum(len(name.encode()) for name in self.left) <= LEFT_BYTES_MAX


class SkuCursor(Struct, frozen=True, array_like=True, tag="skus"):
    """A place in a pass over SKUs, or in a queue (`EntryCursor`)."""

    sku: str
    score: Annotated[str, Meta(pattern=r"^(-?[0-9]{1,20})?$")] = ""
    order_id: str = ""


class OrderFilter(Struct, frozen=True):
    """Which orders are shown; empty or None: any."""

    states: frozenset[str]
    channel: str | None
    sku: str | None
    short: bool
    at_risk: bool

    def matches(self, record: OrderRecord) -> bool:
        """Whether an order is shown. Whether it is at risk depends on warehouses, and is not looked at."""
        if not is_order(record) or (self.states and record.state not in self.states):
            return False
        if self.channel not in (None, record.channel):
            return False
        lines = [line for line in record.lines if self.sku in (None, line.sku)]
        return any(line.short for line in lines) if self.short else self.sku is None or bool(lines)

    def matches_in(self, found: SkuOrders, record: OrderRecord) -> bool:
        """Whether an order is shown among those of a SKU: if it holds units of it at a warehouse below zero; if it is
        short, only among those of the first SKU of which it is."""
        if not self.matches(record):
            return False
        if self.at_risk:
            return any(line.sku == found.sku and line.warehouses.keys() & found.below_zero for line in record.lines)
        return self.sku is not None or next(line.sku for line in record.lines if line.short) == found.sku


class OrderListHandler:
    """The handler of `GET /v1/orders` and `GET /v1/preorders`."""

    def __init__(self, ledger: Ledger, reads: SettledReads, stale: StaleReads) -> None:
        self._ledger = ledger
        self._reads = reads
        self._stale = stale

    async def orders(self, request: web.Request) -> web.Response:
        """`GET /v1/orders?state=…&short=true&at_risk=true&channel=…&sku=…&cursor=…&limit=…`; several `state` may be
        given."""
        query = parse_query(request)
        wanted = _parse_filter(query)
        if isinstance(wanted, web.Response):
            return wanted
        channel = check_channel_filter(request, wanted.channel)
        if isinstance(channel, web.Response):
            return channel
        wanted = msgspec.structs.replace(wanted, channel=channel)
        limit = parse_limit(query.get("limit"), PAGE_ORDERS_DEFAULT, PAGE_ORDERS_MAX)
        if isinstance(limit, web.Response):
            return limit
        place = _parse_place(query.get("cursor"), wanted)
        if isinstance(place, web.Response):
            return place
        after = place.order_id if isinstance(place, TableCursor) else ""
        (items, following), is_stale = await self._stale.either(
            partial(self._of_ledger, wanted, place, limit),
            partial(orders_of_tables, self._stale.tables, wanted, after, limit),
        )
        cursor = None if following is None else encode_cursor(following)
        return problems.json_response(OrderPage(items, cursor, stale=is_stale or UNSET))

    async def _of_ledger(
        self, wanted: OrderFilter, at: KeyCursor | SkuCursor | TableCursor, limit: int, deadline: float
    ) -> tuple[list[Order], Struct | None]:
        """A page; after one of the tables the pass begins anew."""
        if wanted.short or wanted.at_risk:
            entry = at if isinstance(at, SkuCursor) else SkuCursor(wanted.sku or "")
            return await self._of_skus(wanted, entry, limit, deadline)
        return await self._of_keys(wanted, at if isinstance(at, KeyCursor) else KeyCursor(), limit, deadline)

    async def queue(self, request: web.Request) -> web.Response:
        """`GET /v1/preorders?sku=…&cursor=…&limit=…`."""
        query = parse_query(request)
        sku = query.get("sku", "")
        if (invalid := check_name("sku", sku)) is not None:
            return invalid
        page = parse_page(query, SkuCursor, PAGE_ORDERS_DEFAULT, PAGE_ORDERS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        after = cursor or SkuCursor(sku)
        entry = EntryCursor(sku, after.score, after.order_id)
        found = await self._reads.settled(partial(self._ledger.read_queue, entry, limit))
        if found is None:
            return problems.unknown_sku()
        lines = [queued_line(place, sku, row.order_id, row.record) for place, row in enumerate(found.rows, 1)]
        following = None if found.next is None else encode_cursor(_sku_cursor(found.next))
        return problems.json_response(QueuePage([line for line in lines if line is not None], following))

    async def _of_keys(
        self, wanted: OrderFilter, at: KeyCursor, limit: int, deadline: float
    ) -> tuple[list[Order], KeyCursor | None]:
        """A page of a pass over all keys. A call that found more than fits into page and cursor is left out."""
        items, keys = dict[str, Order](), min(limit, FIRST_KEYS)
        before, place = dict(items), at
        for _ in range(READS_MAX):
            if at.is_end or len(items) >= limit:
                break
            if not at.left:
                before, place = dict(items), at
            read = partial(self._ledger.read_orders, at.run_id, at.cursor or "0", keys, at.left)
            found = await self._reads.settled(read, deadline)
            matching = [row for row in found.rows if wanted.matches(row.record)]
            _add(items, matching[: limit - len(items)])
            over = tuple(row.order_id for row in matching if row.order_id not in items)
            at = at.after(found, over)
            # As many keys as probably fill the page.
            keys = min(KEYS_MAX, 4 * keys if not matching else max(1, keys * (limit - len(items)) // len(matching)))
        if not at.fits:
            items, at = before, place
        return list(items.values()), None if at.is_end else at

    async def _of_skus(
        self, wanted: OrderFilter, at: SkuCursor, limit: int, deadline: float
    ) -> tuple[list[Order], SkuCursor | None]:
        """A page of a pass over the SKUs whose orders are short or at risk."""
        items = dict[str, Order]()
        following: EntryCursor | None = EntryCursor(wanted.sku or at.sku, at.score, at.order_id)
        for _ in range(READS_MAX):
            if following is None or len(items) >= limit:
                break
            read = partial(
                self._ledger.read_sku_orders,
                "at_risk" if wanted.at_risk else "short",
                following,
                wanted.sku is None,
                limit - len(items),
            )
            found = await self._reads.settled(read, deadline)
            for group in found.groups:
                _add(items, [row for row in group.rows if wanted.matches_in(group, row.record)])
            following = found.next
        return list(items.values()), None if following is None else _sku_cursor(following)


def _parse_place(given: str | None, wanted: OrderFilter) -> KeyCursor | SkuCursor | TableCursor | web.Response:
    """Where a page begins: the cursor of a page of the ledger with the same filter, or of the tables."""
    of_skus = wanted.short or wanted.at_risk
    if given is None:
        return SkuCursor(wanted.sku or "") if of_skus else KeyCursor()
    of_tables = decode_cursor(given, TableCursor)
    if isinstance(of_tables, TableCursor):
        return of_tables
    return decode_cursor(given, SkuCursor) if of_skus else decode_cursor(given, KeyCursor)


def _add(items: dict[str, Order], rows: list[FoundOrder]) -> None:
    for row in rows:
        items[row.order_id] = order_view(row.order_id, row.record, replayed=False)


def _sku_cursor(entry: EntryCursor) -> SkuCursor:
    return SkuCursor(entry.sku, entry.score, entry.order_id)


def _parse_filter(query: MultiDict[str]) -> OrderFilter | web.Response:
    states = frozenset(query.getall("state", ()))
    if not states <= set(ORDER_STATES):
        return problems.from_malformed(Malformed("invalid_field", f"one of {', '.join(ORDER_STATES)}", "state"))
    for name in ("short", "at_risk"):
        if query.get(name, "true") != "true":
            return problems.from_malformed(Malformed("invalid_field", "`true`, or left out", name))
    channel, sku = query.get("channel"), query.get("sku")
    if channel is not None and (invalid := check_channel(channel)) is not None:
        return invalid
    if sku is not None and (invalid := check_name("sku", sku)) is not None:
        return invalid
    return OrderFilter(states, channel, sku, "short" in query, "at_risk" in query)
