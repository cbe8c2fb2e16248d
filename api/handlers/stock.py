"""Stock over HTTP: a SKU, a page of a channel's stock, the effect of a movement, announced receipts.

In: names in a path, the bounds of a page in a query. Out: settled records of the ledger, as the contract shows them.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web
from msgspec import UNSET, structs

from stocktide.api import problems
from stocktide.api.requests import check_channel, check_name, parse_limit, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.pages import channel_of_tables
from stocktide.api.stale.reads import StaleReads
from stocktide.streams.contract.documents import (
    AnnouncementPage,
    ChannelPage,
    Channels,
    ChannelUpdate,
    StockAnswer,
)
from stocktide.streams.contract.events import Malformed
from stocktide.streams.topics import join_key, split_key
from stocktide.tables.ledger.client import PAGE_SKUS_MAX, Ledger
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.views import announcement_view, channel_update, movement_view, stock_view

PAGE_SKUS_DEFAULT = 100
_OVERDUE = {"true": True, "false": False}


class StockHandlers:
    """The handlers of `/v1/stock`, `/v1/channels/{channel}/stock`, `/v1/warehouses/{warehouse}/movements/{id}` and
    `/v1/expected`."""

    def __init__(self, ledger: Ledger, reads: SettledReads, stale: StaleReads) -> None:
        self._ledger = ledger
        self._reads = reads
        self._stale = stale

    async def sku(self, request: web.Request) -> web.Response:
        """`GET /v1/stock/{sku}`."""
        sku = request.match_info["sku"]
        if (invalid := check_name("sku", sku)) is not None:
            return invalid
        found, is_stale = await self._stale.either(
            partial(self._sku_of_ledger, sku), partial(self._stale.tables.sku, sku)
        )
        if found is None:
            return problems.unknown_sku()
        return problems.json_response(structs.replace(found, stale=True) if is_stale else found)

    async def _sku_of_ledger(self, sku: str, deadline: float) -> StockAnswer | None:
        found = await self._reads.settled(partial(self._ledger.read_sku, sku), deadline)
        return None if found is None else stock_view(sku, *found)

    async def channel(self, request: web.Request) -> web.Response:
        """`GET /v1/channels/{channel}/stock?sku=…&cursor=…&limit=…`; `sku` may be repeated."""
        channel = request.match_info["channel"]
        if (invalid := check_channel(channel)) is not None:
            return invalid
        query = parse_query(request)
        skus = query.getall("sku", None)
        for name in skus or ():
            if (invalid := check_name("sku", name)) is not None:
                return invalid
        if skus is not None and len(skus) > PAGE_SKUS_MAX:
            return problems.from_malformed(Malformed("invalid_field", f"at most {PAGE_SKUS_MAX} at once", "sku"))
        cursor = query.get("cursor", "")
        if cursor and (invalid := check_name("cursor", cursor)) is not None:
            return invalid
        limit = parse_limit(query.get("limit"), PAGE_SKUS_DEFAULT, PAGE_SKUS_MAX)
        if isinstance(limit, web.Response):
            return limit
        (updates, following), is_stale = await self._stale.either(
            partial(self._channel_of_ledger, channel, skus, cursor, limit),
            partial(channel_of_tables, self._stale.tables, channel, skus, cursor, limit),
        )
        return problems.json_response(ChannelPage(updates, following, stale=is_stale or UNSET))

    async def _channel_of_ledger(
        self, channel: str, skus: list[str] | None, cursor: str, limit: int, deadline: float
    ) -> tuple[list[ChannelUpdate], str | None]:
        read = partial(self._ledger.read_channel, channel, skus, cursor, limit)
        items, following = await self._reads.settled(read, deadline)
        return [channel_update(item.sku, item.version, item.at, item.offer) for item in items], following

    async def channels(self, request: web.Request) -> web.Response:
        """`GET /v1/channels`: the channels that had a policy, an order or a subscriber."""
        registry = await self._reads.settled(self._ledger.read_registry)
        return problems.json_response(Channels(list(registry.names)))

    async def movement(self, request: web.Request) -> web.Response:
        """`GET /v1/warehouses/{warehouse}/movements/{id}`."""
        warehouse, movement_id = request.match_info["warehouse"], request.match_info["id"]
        for field, value in (("warehouse", warehouse), ("id", movement_id)):
            if (invalid := check_name(field, value)) is not None:
                return invalid
        record = await self._reads.settled(lambda: self._ledger.read_movement(warehouse, movement_id))
        if record is None:
            return problems.not_found("unknown_movement", f"{warehouse} has sent no movement of this id yet.")
        return problems.json_response(movement_view(warehouse, movement_id, record))

    async def expected(self, request: web.Request) -> web.Response:
        """`GET /v1/expected?warehouse=…&sku=…&overdue=…&cursor=…&limit=…`: announcements with units to come, and for a
        week those of which nothing is to come any more. A page may be short although `next` is not null."""
        query = parse_query(request)
        given = {name: query.get(name, "") for name in ("warehouse", "sku", "cursor")}
        for field in ("warehouse", "sku"):
            if field in query and (invalid := check_name(field, given[field])) is not None:
                return invalid
        if (overdue := query.get("overdue")) is not None and overdue not in _OVERDUE:
            return problems.from_malformed(Malformed("invalid_field", "`true` or `false`", "overdue"))
        if (cursor := given["cursor"]) and "/" not in cursor:
            return problems.from_malformed(Malformed("invalid_field", "the `next` of an earlier page", "cursor"))
        limit = parse_limit(query.get("limit"), PAGE_SKUS_DEFAULT, PAGE_SKUS_MAX)
        if isinstance(limit, web.Response):
            return limit
        after = "\n".join(split_key(cursor)) if cursor else ""
        only = None if overdue is None else _OVERDUE[overdue]
        page = await self._reads.settled(
            lambda: self._ledger.read_expected(given["warehouse"], given["sku"], only, after, limit)
        )
        named = [(key.partition("\n"), record) for key, record in page.rows if record.outcome != Outcome.APPLYING]
        items = [announcement_view(warehouse, id_, record) for (warehouse, _, id_), record in named]
        following = join_key(*page.cursor.split("\n")) if page.cursor else None
        return problems.json_response(AnnouncementPage(items, following))
