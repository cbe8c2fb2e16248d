"""The contract's JSON, as far as a promise speaks of it.

In: responses of the API and rows of public topics. Out: frozen messages with the contract's field names, which are
recorded, and compared whole: so they have less than those of the client (`stocktide.client.documents`). `batch` and
`outcome` are set in rows of topics only. Quantities are whole units; times are RFC 3339 text.
"""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct, field

from stocktide.client.documents import Line as LineView
from stocktide.client.documents import MovedLine as MovedLineView

__all__ = [
    "AlertView",
    "ChannelUpdateView",
    "DeadLetterView",
    "LineView",
    "MovedLineView",
    "MovementView",
    "OrderView",
    "PolicyView",
    "StockView",
    "WarehouseStockView",
]


class OrderView(Struct, frozen=True, omit_defaults=True):
    """The state of an order. `outcome` says how its placement was decided."""

    order_id: str
    channel: str
    state: str
    lines: tuple[LineView, ...]
    sequence: int
    placed_at: str = ""
    expires_at: str | None = None
    batch: int = 0
    outcome: str = ""
    choice_due: bool = False


class MovementView(Struct, frozen=True, omit_defaults=True):
    """The effect of a movement, or its rejection; `movement_id` is that of the one that it voids."""

    warehouse: str
    id: str
    type: str
    outcome: str
    detail: str | None = None
    occurred_at: str = ""
    applied_at: str = ""
    lines: tuple[MovedLineView, ...] = ()
    batch: int = 0
    movement_id: str | None = None


class WarehouseStockView(Struct, frozen=True, omit_defaults=True):
    """The stock of a SKU in one warehouse."""

    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    reserved: int = 0
    available: int = 0
    damaged: int = 0


class StockView(Struct, frozen=True, omit_defaults=True):
    """The stock of a SKU in all warehouses."""

    sku: str
    version: int
    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    reserved: int = 0
    available: int = 0
    short: int = 0
    preordered: int = 0
    damaged: int = 0
    warehouses: dict[str, WarehouseStockView] = field(default_factory=dict)
    batch: int = 0


class ChannelUpdateView(Struct, frozen=True):
    """A channel update."""

    channel: str
    sku: str
    quantity: int
    mode: str
    preorder_remaining: int
    version: int
    available_from: str | None = None


class PolicyView(Struct, frozen=True):
    """The policy of exactly one level; None where none is set."""

    own: dict[str, Any] | None = None


class DeadLetterView(Struct, frozen=True, omit_defaults=True):
    """A row of `dead-letters`: the reason, the origin, and the text of the event where it was text."""

    reason: str
    detail: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    raw: str | None = None

    def event(self) -> dict[str, Any]:
        """The rejected event; empty where its bytes are not a JSON object."""
        try:
            event = orjson.loads(self.raw or "")
        except orjson.JSONDecodeError:
            return {}
        return event if isinstance(event, dict) else {}


class AlertView(Struct, frozen=True, omit_defaults=True):
    """A row of `alerts`."""

    type: str
    id: str = ""
    sku: str = ""
    warehouse: str | None = None
    order_id: str | None = None
    quantity: int | None = None
    orders: tuple[str, ...] = ()
    batch: int = 0
