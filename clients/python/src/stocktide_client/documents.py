"""The answers of the API and the updates of its feeds, as a client reads them.

In: JSON of the contract. Out: frozen messages with its field names; a field that this version does not know is skipped,
one that is left out has its default. Quantities are whole units; times are RFC 3339 text.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Line(Struct, frozen=True, omit_defaults=True):
    """The state of an order line; the amounts are those of now, `warehouses` where the held units are."""

    sku: str
    quantity: int
    state: str = ""
    reserved: int = 0
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    cancelled: int = 0
    warehouses: dict[str, int] = field(default_factory=dict)
    reason: str | None = None
    short: int = 0
    held_back: bool = False
    promised_at: str | None = None
    first_promised_at: str | None = None
    slips: int = 0


class Order(Struct, frozen=True, omit_defaults=True):
    """The state of an order. `replayed`: a repeat of a call that had counted before. `stale`: perhaps not the newest
    state. `choice_due`: its promise moved further than the channel's policy allows."""

    order_id: str
    channel: str
    state: str
    lines: tuple[Line, ...]
    sequence: int
    placed_at: str = ""
    expires_at: str | None = None
    replayed: bool = False
    choice_due: bool = False
    buyer: str | None = None
    stale: bool = False


class Approval(Struct, frozen=True, omit_defaults=True):
    """A forced order, which a second person approves or rejects."""

    id: str
    order_id: str
    channel: str
    state: str
    requested_by: str
    reason: str = ""
    requested_at: str = ""
    expires_at: str = ""


class MovedLine(Struct, frozen=True, omit_defaults=True):
    """The effect of a movement on a SKU at its warehouse; `change` is that of `on_hand`."""

    sku: str
    quantity: int
    outcome: str = ""
    change: int = 0
    on_hand: int = 0
    damaged: int = 0
    carried: int = 0


class Movement(Struct, frozen=True, omit_defaults=True):
    """The effect of a movement, or its rejection. `movement_id`: the one that it voids; `voided_by`: what voided it."""

    warehouse: str
    id: str
    type: str
    outcome: str
    detail: str | None = None
    occurred_at: str = ""
    applied_at: str = ""
    lines: tuple[MovedLine, ...] = ()
    movement_id: str | None = None
    voided_by: str | None = None


class WarehouseStock(Struct, frozen=True, omit_defaults=True):
    """The stock of a SKU in one warehouse."""

    on_hand: int = 0
    committed: int = 0
    locked: int = 0
    reserved: int = 0
    available: int = 0
    damaged: int = 0
    physical: int = 0


class ChannelStock(Struct, frozen=True, omit_defaults=True):
    """What one channel may sell of a SKU."""

    mode: str
    quantity: int
    preorder_remaining: int = 0
    available_from: str | None = None


class Stock(Struct, frozen=True, omit_defaults=True):
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
    warehouses: dict[str, WarehouseStock] = field(default_factory=dict)
    physical: int = 0
    incoming: int = 0
    channels: dict[str, ChannelStock] = field(default_factory=dict)
    as_of: str = ""
    stale: bool = False


class ChannelUpdate(Struct, frozen=True):
    """What a channel may sell of a SKU; a newer one has a higher `version`."""

    channel: str
    sku: str
    quantity: int
    mode: str
    preorder_remaining: int
    version: int
    available_from: str | None = None
    as_of: str = ""


class Alert(Struct, frozen=True, omit_defaults=True):
    """An alert; which fields are set depends on its type."""

    type: str
    id: str = ""
    sku: str = ""
    warehouse: str | None = None
    order_id: str | None = None
    quantity: int | None = None
    orders: tuple[str, ...] = ()
    channel: str | None = None
    at: str = ""
    detail: str | None = None


class PolicyLevel(Struct, frozen=True, omit_defaults=True):
    """The policy of a channel, or of one SKU in it: what is set at this level, and what is in force. `etag` says which
    state of it this is."""

    channel: str
    sku: str | None = None
    own: dict[str, Any] | None = None
    effective: dict[str, Any] = field(default_factory=dict)
    etag: str | None = None


class Synced(Struct, frozen=True):
    """A feed has sent all that was there before; every change follows."""

    channel: str = ""


class Resumed(Struct, frozen=True):
    """A feed goes on where it was; what was missed follows."""

    channel: str = ""


class Reset(Struct, frozen=True):
    """A feed cannot go on where it was: forget all that you have. Everything follows anew, perhaps with lower
    versions."""

    channel: str = ""
    reason: str = ""


class Status(Struct, frozen=True):
    """The API says whether the numbers of its feeds are of now, and by part why they are not."""

    ready: bool
    reasons: dict[str, str] = field(default_factory=dict)
