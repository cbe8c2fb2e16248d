"""Pages of the published tables: a channel's stock, and orders.

In: what is asked of the ledger. Out: the same of the tables. Each call looks at a bounded number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from stocktide.api.stale.reads import NotInTables, PublishedTables
from stocktide.streams.contract.documents import ChannelUpdate, Order
from stocktide.streams.contract.events import Name
from stocktide.tables.ledger.records import OrderRecord
from stocktide.tables.views import is_order, order_view

# Rows of one page that a filter may leave out: some 50 ms.
ROWS_LOOKED_AT_MAX = 2_000


class TableCursor(Struct, frozen=True, array_like=True, tag="tables"):
    """A place in a pass over the orders of the tables: after `order_id`."""

    order_id: Name


class OrderMatcher(Protocol):
    """Which orders are shown."""

    @property
    def at_risk(self) -> bool:
        """Whether only those are shown that a warehouse below zero holds, which the tables do not tell."""
        ...

    def matches(self, record: OrderRecord) -> bool:
        """Whether an order is shown."""
        ...


async def channel_of_tables(
    tables: PublishedTables, channel: str, skus: Sequence[str] | None, after: str, limit: int
) -> tuple[list[ChannelUpdate], str | None]:
    """A page of a channel's stock, and the cursor of the next one. Raises NotInTables for a channel that a SKU was not
    published for: the ledger decides what it may sell."""
    await tables.stock.refresh()
    names, more = (skus, False) if skus is not None else await tables.stock.names("", after, limit)
    updates: list[ChannelUpdate] = []
    for sku in names:
        stock = tables.stock_row(sku)
        if stock is None:
            continue
        offer = stock.channels.get(channel)
        if offer is None:
            raise NotInTables(channel)
        updates.append(
            ChannelUpdate(
                channel,
                sku,
                offer.quantity,
                offer.mode,
                offer.preorder_remaining,
                stock.version,
                stock.as_of,
                offer.available_from,
            )
        )
    return updates, names[-1] if more else None


async def orders_of_tables(
    tables: PublishedTables, wanted: OrderMatcher, after: str, limit: int
) -> tuple[list[Order], TableCursor | None]:
    """A page of orders by their ids, and the place after it. Raises NotInTables for what the tables do not tell."""
    if wanted.at_risk:
        raise NotInTables("at_risk")
    await tables.orders.refresh()
    names, more = await tables.orders.names("", after, ROWS_LOOKED_AT_MAX)
    items: list[Order] = []
    for order_id in names:
        record = tables.order_row(order_id)
        if record is None or not is_order(record) or not wanted.matches(record):
            continue
        if len(items) == limit:
            return items, TableCursor(items[-1].order_id)
        items.append(order_view(order_id, record, replayed=False))
    return items, TableCursor(names[-1]) if more else None
