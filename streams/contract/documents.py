"""The JSON documents of the contract: answers of the API, and rows of the public topics.

In: the fields of a document. Out: `encode`, its JSON with the fields in their order here. A reader ignores unknown
fields. Quantities are whole units; times are RFC 3339 in UTC, with milliseconds.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType


def _one_of(*values: str) -> Meta:
    """Names the values in the OpenAPI document; a reader takes others too, from a newer version."""
    return Meta(extra_json_schema={"enum": sorted(values)})


Mode = Annotated[str, _one_of("in_stock", "preorder", "sold_out", "suspended")]
LineState = Annotated[
    str,
    _one_of(
        *("reserved", "preordered", "rejected", "committed", "shipped", "cancelled", "expired", "returned"),
        "awaiting_approval",
    ),
]
AnnouncementState = Annotated[str, _one_of("expected", "partly_received", "received", "over_received", "withdrawn")]
ApprovalState = Annotated[str, _one_of("waiting", "approved", "refused", "rejected", "expired")]
ORDER_STATES = ("reserved", "paid", "shipped", "cancelled", "expired", "rejected", "awaiting_approval")
OrderState = Annotated[str, _one_of(*ORDER_STATES)]

encode = msgspec.json.Encoder().encode


# A document contains no cycle, and some tens of thousands are made per second: the garbage collector passes them over.
class _Document(Struct, frozen=True, gc=False):
    pass


class Line(_Document, frozen=True):
    """A line of an order; `warehouses` says where its held units are. `short` units are sold, and wait for stock.
    `cancelled` is left out where it is 0; `held_back`, whether an operator keeps these from it, where it is false.
    `promised_at` is when the units that a line waits for should come; `first_promised_at` is the first such time, and
    `slips` how often it moved later. They are left out where there is none."""

    sku: str
    quantity: int
    state: LineState
    reserved: int
    preordered: int
    shipped: int
    returned: int
    warehouses: dict[str, int]
    reason: str | None
    short: int
    cancelled: int | UnsetType = UNSET
    held_back: bool | UnsetType = UNSET
    promised_at: str | UnsetType = UNSET
    first_promised_at: str | UnsetType = UNSET
    slips: int | UnsetType = UNSET


class OrderFields(_Document, frozen=True):
    order_id: str
    channel: str
    state: OrderState
    lines: list[Line]
    placed_at: str
    expires_at: str | None
    sequence: int


class Order(OrderFields, frozen=True):
    """An order as it is now. `choice_due`: it still waits, and its promise moved by more days than the channel's policy
    allows. `buyer` where it was given. `stale`: the ledger cannot be read now, and this may not be the newest state."""

    replayed: bool
    choice_due: bool | UnsetType = UNSET
    buyer: str | UnsetType = UNSET
    stale: bool | UnsetType = UNSET


class Ticket(_Document, frozen=True):
    """A one-use ticket for a feed (`?ticket=`), valid for `expires_in` seconds."""

    ticket: str
    expires_in: int


class Holder(_Document, frozen=True):
    """Whose key this is. `channel` and `warehouses` are there where they limit it."""

    role: str
    holder: str
    rights: list[str]
    channel: str | UnsetType = UNSET
    warehouses: list[str] | UnsetType = UNSET


class OrderPage(_Document, frozen=True):
    """A page of orders, which may be short or empty although `next`, the cursor of the page after it, is not null.
    `stale` as in `Order`."""

    items: list[Order]
    next: str | None
    stale: bool | UnsetType = UNSET


class QueuedLine(Line, frozen=True, kw_only=True):
    """A line that waits for units, `place` in the queue of its SKU counted from 1 on this page, and its order."""

    place: int
    order_id: str
    channel: str
    priority: str
    placed_at: str


class QueuePage(_Document, frozen=True):
    """A page of the queue of a SKU, the next to be filled first; `next` is the cursor of the page after it."""

    items: list[QueuedLine]
    next: str | None


class OrderUpdate(Order, frozen=True):
    """An order after a change, as its feed shows it; `event` names a change that its sender did not ask for."""

    event: str | UnsetType = UNSET


class PublishedOrder(OrderFields, frozen=True):
    """A row of `reservations`; `outcome` is that of the placing, `record` the ledger's. `restated`: the order has not
    changed, its row was only written again. `event` is `order.repromised` where a promised date changed, and
    `choice_due` as in `Order`."""

    batch: int
    outcome: str
    record: Any
    restated: bool | UnsetType = UNSET
    event: str | UnsetType = UNSET
    choice_due: bool | UnsetType = UNSET
    buyer: str | UnsetType = UNSET


# What of a row is not for readers of orders.
PUBLISHED_ORDER_INTERNALS = ("batch", "outcome", "record", "restated")
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def order_document(row: bytes) -> bytes:
    """The order of a row as `GET /v1/orders/{order_id}` shows it, with whatever else the row has for readers."""
    fields = _decode_fields(row)
    for name in PUBLISHED_ORDER_INTERNALS:
        fields.pop(name, None)
    fields["replayed"] = Raw(b"false")
    return encode(fields)


class RequestedLine(_Document, frozen=True):
    """Units that a request asks for."""

    sku: str
    quantity: int


class Approval(_Document, frozen=True):
    """A request that a second person approves. `outcome` is that of its order: null until it is approved. An approved
    one whose units were not there is `refused`; `comment` is the reason of a rejection."""

    id: str
    kind: str
    order_id: str
    channel: str
    state: ApprovalState
    requested_by: str
    reason: str
    requested_at: str
    expires_at: str
    approved_by: str | None
    rejected_by: str | None
    decided_at: str | None
    comment: str | None
    outcome: str | None
    lines: list[RequestedLine]
    replayed: bool


class PolicyApproval(_Document, frozen=True, kw_only=True):
    """A request for another policy that a second person approves; `before` and `after` are the policy of the level,
    null where it has none. An approved one is `refused` if the policy had been changed meanwhile; `outcome` says so."""

    id: str
    kind: str = "policy"
    channel: str
    sku: str | None
    state: ApprovalState
    requested_by: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    requested_at: str
    expires_at: str
    approved_by: str | None = None
    rejected_by: str | None = None
    decided_at: str | None = None
    comment: str | None = None
    outcome: str | None = None
    replayed: bool = False


class ApprovalPage(_Document, frozen=True):
    """A page of requests by id, of orders and of policies; `next` is the cursor of the page after it."""

    items: list[Any]
    next: str | None


class AuditEntry(_Document, frozen=True, kw_only=True):
    """What an actor changed: a policy, an order that waits, a request for approval or its end, a repaired key. `before`
    and `after` are what changed; null where there was or is nothing."""

    actor: str
    action: str
    at: str
    batch: int
    channel: str | UnsetType | None = UNSET
    sku: str | UnsetType | None = UNSET
    order_id: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    requested_by: str | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    subject: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    why: str | UnsetType = UNSET
    before: Any = None
    after: Any = None


class WarehouseStock(_Document, frozen=True):
    """A SKU in one warehouse."""

    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    damaged: int


class ChannelStock(_Document, frozen=True):
    """What one channel may sell of a SKU; `available_from` as in `ChannelUpdate`."""

    mode: Mode
    quantity: int
    preorder_remaining: int
    available_from: str | UnsetType = UNSET


class StockFields(_Document, frozen=True):
    sku: str
    version: int
    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    short: int
    preordered: int
    incoming: int
    damaged: int
    warehouses: dict[str, WarehouseStock]
    channels: dict[str, ChannelStock]
    as_of: str


class StockAnswer(StockFields, frozen=True):
    """A SKU, everywhere. `stale` as in `Order`."""

    stale: bool | UnsetType = UNSET


class StockPage(_Document, frozen=True):
    """A page of SKUs by name, which may be short or empty although `next`, the cursor of the page after it, is not
    null."""

    items: list[StockAnswer]
    next: str | None
    stale: bool | UnsetType = UNSET


class PublishedStock(StockFields, frozen=True):
    """A row of `stock`; `publish_interval_ms` of the channels whose policy sets one, `record` the ledger's."""

    batch: int
    publish_interval_ms: dict[str, int]
    record: Any


class ChangeCause(_Document, frozen=True, kw_only=True, omit_defaults=True):
    """What a change came from: the kind of command, the id of its event, and whose it was."""

    kind: str
    id: str
    order_id: str | None = None
    warehouse: str | None = None
    channel: str | None = None
    actor: str | None = None


class ChangedTotals(_Document, frozen=True):
    """The numbers of a SKU after a change, over all warehouses."""

    on_hand: int
    committed: int
    physical: int
    locked: int
    reserved: int
    available: int
    short: int
    preordered: int
    damaged: int
    incoming: int


class StockChange(_Document, frozen=True):
    """A change of a SKU; `change` has the deltas by counter, as `locked@SH1`. `modes`: of each channel after it, where
    the offers were published whole."""

    version: int
    at: str
    batch: int
    cause: ChangeCause
    change: dict[str, int]
    after: ChangedTotals
    modes: dict[str, Mode] | UnsetType = UNSET


class StockHistory(_Document, frozen=True):
    """A page of a SKU's changes, newest first; `next` is the cursor of the page after it, null where nothing older is
    kept. `complete` is false where the page was cut because the journal was read far enough for one call."""

    sku: str
    items: list[StockChange]
    next: str | None
    complete: bool


class ChannelUpdate(_Document, frozen=True):
    """What a channel may sell of a SKU now. `available_from`: in mode `preorder`, the `promised_at` of the next unit;
    left out where none is announced for it."""

    channel: str
    sku: str
    quantity: int
    mode: Mode
    preorder_remaining: int
    version: int
    as_of: str
    available_from: str | UnsetType = UNSET


class ChannelPage(_Document, frozen=True):
    """A page of a channel's stock; `next` is the cursor of the page after it. `stale` as in `Order`."""

    items: list[ChannelUpdate]
    next: str | None
    stale: bool | UnsetType = UNSET


class Pool(_Document, frozen=True):
    """Units of a SKU that a warehouse has set aside for a purpose. `from` is null once orders may draw from it, `until`
    if it has no end."""

    purpose: str
    warehouse: str
    sku: str
    quantity: int
    from_: str | None = msgspec.field(name="from")
    until: str | None


class PoolPage(_Document, frozen=True):
    """A page of pools by SKU; `next` is the cursor of the page after it."""

    items: list[Pool]
    next: str | None


class Channels(_Document, frozen=True):
    """The known channels, in the order in which they became known."""

    items: list[str]


class MovedLine(_Document, frozen=True):
    """What a movement did to one SKU."""

    sku: str
    quantity: int
    outcome: str
    change: int
    on_hand: int
    damaged: int
    carried: int


class MovementAnswer(_Document, frozen=True):
    """What a movement did, or why it was refused. `movement_id`: the movement that it voids; `voided_by`: the one that
    voided it."""

    warehouse: str
    id: str
    type: str
    outcome: str
    detail: str | None
    occurred_at: str
    applied_at: str
    lines: list[MovedLine]
    movement_id: str | UnsetType = UNSET
    voided_by: str | UnsetType = UNSET


class PublishedMovement(MovementAnswer, frozen=True, kw_only=True):
    """A row of `adjustments`; `record` is the ledger's."""

    batch: int
    record: Any


class AnnouncedLine(_Document, frozen=True):
    """A line of an announcement: `quantity` units announced in total, `received` so far, `incoming` still to come, and
    `over` received beyond those announced."""

    sku: str
    quantity: int
    received: int
    incoming: int
    over: int


class Announcement(_Document, frozen=True):
    """An announced receipt. `occurred_at` is that of its newest event, `changed_at` when it last changed."""

    id: str
    warehouse: str
    state: AnnouncementState
    eta: str
    overdue: bool
    amendments: int
    occurred_at: str
    changed_at: str
    lines: list[AnnouncedLine]


class AnnouncementPage(_Document, frozen=True):
    """A page of announcements; `next` is the cursor of the page after it."""

    items: list[Announcement]
    next: str | None


class PolicyAnswer(_Document, frozen=True):
    """A policy level: what is set there, and what is in force."""

    channel: str
    sku: str | None
    own: dict[str, Any] | None
    effective: dict[str, Any]


class OfferNumbers(_Document, frozen=True):
    """What a channel may sell of a SKU."""

    mode: Mode
    quantity: int
    preorder_remaining: int


class PreviewedOffer(_Document, frozen=True):
    """An offer that a policy would change; `channel` is shown at the level `*`."""

    sku: str
    before: OfferNumbers
    after: OfferNumbers
    channel: str | UnsetType = UNSET


class ModeCounts(_Document, frozen=True):
    """Offers by mode."""

    in_stock: int
    preorder: int
    sold_out: int
    suspended: int


class ModesBothWays(_Document, frozen=True):
    """Offers by mode before and after a change."""

    before: ModeCounts
    after: ModeCounts


class UnitsBothWays(_Document, frozen=True):
    """Units that may be sold before and after a change."""

    before: int
    after: int


class PolicyPreview(_Document, frozen=True, kw_only=True):
    """What a policy would do to the SKUs that this call looked at, with the stock as it is. `items` are the offers that
    would change. `complete`: it looked at all that there are; else `next` is the cursor with which a call goes on."""

    channel: str
    sku: str | None
    own: dict[str, Any] | None
    effective: dict[str, Any]
    examined: int
    complete: bool
    changed: int
    modes: ModesBothWays
    quantity: UnitsBothWays
    items: list[PreviewedOffer]
    next: str | None


class PolicyVersion(_Document, frozen=True):
    """A change of a level; `requested_by`, if a second person approved it."""

    version: str
    actor: str
    at: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    requested_by: str | None


class PolicyHistory(_Document, frozen=True):
    """Changes of a level, newest first; a page may be short although another one follows."""

    items: list[PolicyVersion]
    next: str | None


class PublishedPolicy(_Document, frozen=True):
    """A row of `policies`; `policy` None: the level was removed."""

    channel: str
    sku: str | None
    policy: dict[str, Any] | None
    batch: int


class PublishedAlert(_Document, frozen=True, kw_only=True):
    """A row of `alerts`; what is UNSET is left out."""

    id: str
    type: str
    sku: str = ""
    warehouse: str | None = None
    channel: str | None = None
    order_id: str | None = None
    quantity: int | None = None
    orders: tuple[str, ...] = ()
    event_id: str | UnsetType | None = None
    event_type: str | UnsetType | None = None
    at: str
    batch: int
    process: str | UnsetType = UNSET
    part: str | UnsetType = UNSET
    topic: str | UnsetType | None = UNSET
    partition: int | UnsetType | None = UNSET
    offset: int | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    mode_before: str | UnsetType = UNSET
    mode: str | UnsetType = UNSET


class AlertPage(_Document, frozen=True):
    """A page of alerts, newest first, which may be short or empty although `next`, the cursor of the page after it, is
    not null."""

    items: list[PublishedAlert]
    next: str | None


class AlertTypes(_Document, frozen=True):
    """The types that alerts may have."""

    items: list[str]


class DeadLetterPlace(_Document, frozen=True):
    """A place in the topic `dead-letters`."""

    partition: int
    offset: int


class DeadLetter(_Document, frozen=True, omit_defaults=True):
    """A row of `dead-letters`: the reason, the origin of the bytes, and the bytes: as text, or in base64 if they are
    not UTF-8 or only their beginning is kept; then `raw_bytes` is their number. A mark says that the dead letter at
    `of` was sent again or dropped, and by whom."""

    reason: str
    detail: str
    path: str | None
    topic: str
    partition: int
    offset: int
    at: str
    raw: str | None = None
    raw_base64: str | None = None
    raw_bytes: int | None = None
    of: DeadLetterPlace | None = None
    by: str = ""

    @property
    def event(self) -> bytes:
        """The bytes, or the beginning that is kept."""
        return base64.b64decode(self.raw_base64) if self.raw_base64 is not None else (self.raw or "").encode()


DeadLetterState = Annotated[str, _one_of("open", "retried", "dropped")]


class ListedDeadLetter(_Document, frozen=True, kw_only=True):
    """A dead letter and what became of it; `partition` and `offset` are its own, `origin` is the place of its event, of
    which `topic` is the topic. The event is `raw` or `raw_base64`, `bytes` long; in a list only its beginning. `cut`:
    this is not all of it. `by` and `done_at`: who sent it again or dropped it, and when."""

    partition: int
    offset: int
    reason: str
    detail: str
    path: str | None
    topic: str
    origin: DeadLetterPlace
    key: str | None
    at: str
    raw: str | UnsetType = UNSET
    raw_base64: str | UnsetType = UNSET
    bytes: int
    cut: bool
    state: DeadLetterState
    by: str | None
    done_at: str | None


class DeadLetterPage(_Document, frozen=True):
    """A page of dead letters, newest first; `next` is the cursor of the page after it. `left_out`: how many older ones
    are too many to be listed."""

    items: list[ListedDeadLetter]
    next: str | None
    left_out: int


class RejectedLine(_Document, frozen=True):
    """A line of NDJSON, counted from 1, that is no event."""

    line: int
    code: str
    detail: str
    path: str | None


class EventsTaken(_Document, frozen=True):
    """How many events Kafka has, and which lines were none."""

    accepted: int
    rejected: list[RejectedLine]


class MovementTaken(_Document, frozen=True):
    """A movement that Kafka has."""

    accepted: int
    warehouse: str
    id: str


class FieldError(_Document, frozen=True):
    """What is wrong with one field."""

    path: str
    detail: str


class Problem(_Document, frozen=True, kw_only=True):
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


class Status(_Document, frozen=True):
    """Readiness, with what is wrong by check."""

    ready: bool
    reasons: dict[str, str]


class StalledPart(_Document, frozen=True):
    """A part of a process whose `pending` work has made no progress for `seconds`; `topic` is a full name."""

    part: str
    topic: str | None
    pending: int
    seconds: float
    detail: str


class RecoveryStatus(_Document, frozen=True):
    """How far a recovery of Redis is; `total` 0: unknown."""

    phase: str
    done: int
    total: int


class AuditStatus(_Document, frozen=True):
    """The last audit: when it ended, how long it took, the keys that drift, null where that
    is not known; `unfinished` says why not all could be checked, null where all was."""

    at: str
    seconds: float
    drifts: int | None
    unfinished: str | None


ProcessKind = Annotated[str, _one_of("worker", "api")]


class ProcessStatus(_Document, frozen=True, kw_only=True):
    """A row of `processes`: what a process says of itself every 5 s. An older row says nothing any more."""

    process: str
    kind: ProcessKind
    at: str
    reasons: list[str]
    stalls: list[StalledPart]
    # Of the worker that owns the shard, while it brings Redis back.
    recovery: RecoveryStatus | None = None
    audit: AuditStatus | None = None


HealthState = Annotated[str, _one_of("ok", "waiting", "stalled", "unknown")]


class PartHealth(_Document, frozen=True):
    """How a part of the system is. `waiting`: work waits and moves; `stalled`: it does not, or somebody is needed;
    `unknown`: nobody can say. `waiting` counts what waits, `seconds` says since when; null where it is not known."""

    part: str
    state: HealthState
    waiting: int | None
    seconds: float | None
    detail: str


class ProcessHealth(_Document, frozen=True):
    """A worker or an API; `seconds` since it last said something."""

    process: str
    kind: ProcessKind
    state: HealthState
    seconds: float
    detail: str


class SystemHealth(_Document, frozen=True):
    """How all parts are, and the processes that were heard of within 10 minutes. `ready` as `/readyz` of this API."""

    ready: bool
    as_of: str
    parts: list[PartHealth]
    processes: list[ProcessHealth]


class SeriesValues(_Document, frozen=True, kw_only=True):
    """Values by interval, oldest first; null where nothing was measured. Times of orders are within 5 %."""

    orders_per_second: list[float | None]
    rejections_per_second: list[float | None]
    order_p50_ms: list[float | None]
    order_p99_ms: list[float | None]
    updates_per_second: list[float | None]


class HealthSeries(_Document, frozen=True):
    """What this API process did in the last 10 minutes; the last interval ends at `ends_at`."""

    interval_seconds: int
    ends_at: str
    series: SeriesValues


class FeedPosition(_Document, frozen=True):
    """`resumed`: the feed continues after the client's id. `synced`: everything that was there before is sent."""

    channel: str


class FeedReset(_Document, frozen=True):
    """The client's id could not be honoured, and why: everything is sent anew."""

    channel: str
    reason: str


class FeedError(_Document, frozen=True):
    """Why the server ends a feed."""

    code: str
    detail: str
