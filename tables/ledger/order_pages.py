"""Pages of orders, as `lua/includes/order_pages.lua` packs them.

In: msgpack. Out: typed pages, whose orders stay packed until they are looked at.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from stocktide.tables.ledger.packed import unpack_order
from stocktide.tables.ledger.records import OrderRecord


class FoundOrder(Struct, frozen=True, array_like=True):
    """An order with its packed record."""

    order_id: str
    packed: msgspec.Raw

    @property
    def record(self) -> OrderRecord:
        """The record."""
        return unpack_order(self.packed)


class KeyPage(Struct, frozen=True, array_like=True):
    """Orders among some keys of the server `run_id`; the rest is after `cursor` ("0": none) and in `left`."""

    run_id: str
    cursor: str
    rows: tuple[FoundOrder, ...]
    left: tuple[str, ...]


class EntryCursor(Struct, frozen=True, array_like=True):
    """A place among the orders of SKUs: after an entry of an index of `sku`, or before all of them ("")."""

    sku: str = ""
    score: str = ""
    order_id: str = ""


class SkuOrders(Struct, frozen=True, array_like=True):
    """Orders that are short of a SKU, or that hold units of it; `below_zero`: its warehouses below zero."""

    sku: str
    below_zero: tuple[str, ...]
    rows: tuple[FoundOrder, ...]


class SkuOrdersPage(Struct, frozen=True, array_like=True):
    """Orders by SKU, and the place after them (None: the end)."""

    groups: tuple[SkuOrders, ...]
    next: EntryCursor | None


class QueuedOrders(Struct, frozen=True, array_like=True):
    """Orders in the order of a queue, and the place after them (None: the end)."""

    rows: tuple[FoundOrder, ...]
    next: EntryCursor | None


decode_key_page = msgspec.msgpack.Decoder(KeyPage).decode
decode_sku_orders = msgspec.msgpack.Decoder(SkuOrdersPage).decode
decode_queued_orders = msgspec.msgpack.Decoder(QueuedOrders).decode
