"""The types of responses, for the OpenAPI document and for tests of the views.

The views of `tables.views` build plain dicts of these types, because they run for every published row.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Mode = Literal["in_stock", "preorder", "sold_out", "suspended"]
LineState = Literal["reserved", "preordered", "rejected", "committed", "shipped", "cancelled", "expired", "returned"]
OrderState = Literal["reserved", "paid", "shipped", "cancelled", "expired", "rejected"]


class _Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Line(_Answer, frozen=True, kw_only=True):
    """A line of an order; `warehouses` says where its held units are."""

    sku: str
    quantity: int
    state: LineState
    reserved: int
    preordered: int
    shipped: int
    returned: int
    warehouses: dict[str, int]
    reason: str | None


class Order(_Answer, frozen=True, kw_only=True):
    """An order as it is now."""

    order_id: str
    channel: str
    state: OrderState
    lines: list[Line]
    placed_at: str
    expires_at: str | None
    sequence: int
    replayed: bool


class WarehouseStock(_Answer, frozen=True, kw_only=True):
    """A SKU in one warehouse."""

    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    damaged: int


class ChannelStock(_Answer, frozen=True, kw_only=True):
    """What one channel may sell of a SKU."""

    mode: Mode
    quantity: int
    preorder_remaining: int


class StockAnswer(_Answer, frozen=True, kw_only=True):
    """A SKU, everywhere."""

    sku: str
    version: int
    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    preordered: int
    incoming: int
    damaged: int
    warehouses: dict[str, WarehouseStock]
    channels: dict[str, ChannelStock]
    as_of: str


class ChangeCause(_Answer, frozen=True, kw_only=True, omit_defaults=True):
    """What a change came from: the kind of command, the id of its event, and whose it was."""

    kind: str
    id: str
    order_id: str | None = None
    warehouse: str | None = None
    channel: str | None = None
    actor: str | None = None


class ChangedTotals(_Answer, frozen=True, kw_only=True):
    """The numbers of a SKU after a change, over all warehouses."""

    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    preordered: int
    damaged: int


class StockChange(_Answer, frozen=True, kw_only=True):
    """A change of a SKU; `change` has the deltas by counter, as `locked@SH1`."""

    version: int
    at: str
    batch: int
    cause: ChangeCause
    change: dict[str, int]
    after: ChangedTotals


class StockHistory(_Answer, frozen=True, kw_only=True):
    """A page of a SKU's changes, newest first; `next` is the cursor of the page after it, null where nothing older is
    kept. `complete` is false where the page was cut because the journal was read far enough for one call."""

    sku: str
    items: list[StockChange]
    next: str | None
    complete: bool


class ChannelUpdate(_Answer, frozen=True, kw_only=True):
    """What a channel may sell of a SKU now."""

    channel: str
    sku: str
    quantity: int
    mode: Mode
    preorder_remaining: int
    version: int
    as_of: str


class ChannelPage(_Answer, frozen=True, kw_only=True):
    """A page of a channel's stock; `next` is the cursor of the page after it."""

    items: list[ChannelUpdate]
    next: str | None


class Channels(_Answer, frozen=True, kw_only=True):
    """The known channels, in the order in which they became known."""

    items: list[str]


class MovedLine(_Answer, frozen=True, kw_only=True):
    """What a movement did to one SKU."""

    sku: str
    quantity: int
    outcome: str
    change: int
    on_hand: int
    damaged: int
    carried: int


class MovementAnswer(_Answer, frozen=True, kw_only=True):
    """What a movement did, or why it was refused."""

    warehouse: str
    id: str
    type: str
    outcome: str
    detail: str | None
    occurred_at: str
    applied_at: str
    lines: list[MovedLine]


class PolicyAnswer(_Answer, frozen=True, kw_only=True):
    """A policy level: what is set there, and what is in force."""

    channel: str
    sku: str | None
    own: dict[str, Any] | None
    effective: dict[str, Any]


class RejectedLine(_Answer, frozen=True, kw_only=True):
    """A line of NDJSON, counted from 1, that is no event."""

    line: int
    code: str
    detail: str
    path: str | None


class EventsTaken(_Answer, frozen=True, kw_only=True):
    """How many events Kafka has, and which lines were none."""

    accepted: int
    rejected: list[RejectedLine]


class MovementTaken(_Answer, frozen=True, kw_only=True):
    """A movement that Kafka has."""

    accepted: int
    warehouse: str
    id: str


class FieldError(_Answer, frozen=True, kw_only=True):
    """What is wrong with one field."""

    path: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = []
    lines: list[dict[str, Any]] = []
    order: Order | None = None
    replayed: bool = False


class Status(_Answer, frozen=True, kw_only=True):
    """Readiness, with what is wrong by check."""

    ready: bool
    reasons: dict[str, str]
