"""What the contract tells as JSON, under its own names and as far as a promise speaks of it.

In: answers and rows of public topics. Out: frozen messages. `batch` and `outcome` come with rows of topics only, where
an answer leaves them out they are nothing. Quantities are whole units; times are text, as told.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class LineView(Struct, frozen=True, omit_defaults=True):
    """A line of an order as it is."""

    sku: str
    quantity: int
    state: str = ""
    reserved: int = 0
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    warehouses: dict[str, int] = field(default_factory=dict)
    reason: str | None = None


class OrderView(Struct, frozen=True, omit_defaults=True):
    """An order as it is; `batch` and `outcome` come with rows of `reservations` only."""

    order_id: str
    channel: str
    state: str
    lines: tuple[LineView, ...]
    sequence: int
    placed_at: str = ""
    expires_at: str | None = None
    batch: int = 0
    outcome: str = ""


class MovedLineView(Struct, frozen=True, omit_defaults=True):
    """What a movement did to a SKU at its warehouse."""

    sku: str
    quantity: int
    outcome: str = ""
    change: int = 0
    on_hand: int = 0
    damaged: int = 0
    carried: int = 0


class MovementView(Struct, frozen=True, omit_defaults=True):
    """What a movement did, or its refusal; `batch` comes with rows of `adjustments` only."""

    warehouse: str
    id: str
    type: str
    outcome: str
    detail: str | None = None
    occurred_at: str = ""
    applied_at: str = ""
    lines: tuple[MovedLineView, ...] = ()
    batch: int = 0


class WarehouseStockView(Struct, frozen=True, omit_defaults=True):
    """A SKU in one warehouse."""

    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    reserved: int = 0
    available: int = 0
    damaged: int = 0


class StockView(Struct, frozen=True, omit_defaults=True):
    """A SKU everywhere; `batch` comes with rows of `stock` only."""

    sku: str
    version: int
    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    reserved: int = 0
    available: int = 0
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


class PolicyView(Struct, frozen=True, omit_defaults=True):
    """A policy level: `policy` None where there is none (any more)."""

    channel: str
    sku: str | None = None
    policy: dict[str, Any] | None = None
    batch: int = 0


class DeadLetterView(Struct, frozen=True, omit_defaults=True):
    """A row of `dead-letters`: the reason, the origin, and the text as it came where it was text."""

    reason: str
    detail: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    raw: str | None = None


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
