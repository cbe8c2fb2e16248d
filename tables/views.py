"""The ledger's records as documents of the contract.

In: typed records of `tables.ledger.records`. Out: documents of `streams.contract.documents`. Pure, and written for
speed: the derivations call these once per published row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import UNSET, UnsetType, structs

from stocktide.streams.contract.documents import (
    AnnouncedLine,
    Announcement,
    Approval,
    ChannelStock,
    ChannelUpdate,
    Line,
    MovedLine,
    MovementAnswer,
    Order,
    PublishedMovement,
    PublishedOrder,
    PublishedStock,
    QueuedLine,
    RequestedLine,
    StockAnswer,
    WarehouseStock,
)
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import (
    AWAITING_APPROVAL,
    ApprovalRecord,
    MovementRecord,
    Offer,
    OrderRecord,
    SkuRecord,
)

# A movement's type in the contract, by the kind of its command.
MOVEMENT_TYPES = {
    "receive": "stock.received",
    "adjust": "stock.adjusted",
    "count": "stock.counted",
    "transfer": "stock.transferred",
    "void": "stock.voided",
    "expect": "stock.expected",
    "reserve": "stock.reserved",
    "release": "stock.released",
}
# A record in this state holds events that arrived before their order; to callers the order is unknown.
PARKED = "parked"
# States with a deadline of the order's own; a parked record has that of its events.
_EXPIRING = frozenset({"reserved", AWAITING_APPROVAL})
# Counter names are few: some per warehouse, channel and pool.
_NAMES_CACHED = 65_536


def order_view(order_id: str, record: OrderRecord, replayed: bool) -> Order:
    """An order of the contract. A `parked` record is no order; check `is_order` first."""
    buyer = UNSET if record.buyer is None else record.buyer
    return Order(*_order_fields(order_id, record), replayed, choice_due=_choice_due(record), buyer=buyer)


def queued_line(place: int, sku: str, order_id: str, record: OrderRecord) -> QueuedLine | None:
    """The line of an order that waits for units of a SKU; None if none does."""
    order = order_view(order_id, record, replayed=False)
    for line in order.lines:
        if line.sku == sku and (line.short or line.preordered):
            return QueuedLine(
                **structs.asdict(line),
                place=place,
                order_id=order_id,
                channel=order.channel,
                priority=record.priority,
                placed_at=order.placed_at,
            )
    return None


def published_order(
    order_id: str, record: OrderRecord, batch: int, restated: bool = False, repromised: bool = False
) -> PublishedOrder:
    """A row of `reservations`."""
    return PublishedOrder(
        *_order_fields(order_id, record),
        batch,
        record.outcome,
        record,
        restated=restated or UNSET,
        event="order.repromised" if repromised else UNSET,
        choice_due=_choice_due(record),
        buyer=UNSET if record.buyer is None else record.buyer,
    )


def _choice_due(record: OrderRecord) -> bool | UnsetType:
    waits = record.choice_due and any(line.preordered or line.short for line in record.lines)
    return True if waits else UNSET


def _time(at_ms: int | None) -> str | UnsetType:
    return UNSET if at_ms is None else rfc3339(at_ms)


def _order_fields(order_id: str, record: OrderRecord) -> tuple[str, str, str, list[Line], str, str | None, int]:
    """The fields of `OrderFields`, in their order."""
    lines = [
        Line(
            sku=line.sku,
            quantity=line.quantity,
            state=line.state,
            reserved=line.reserved,
            preordered=line.preordered,
            shipped=line.shipped,
            returned=line.returned,
            warehouses=line.warehouses,
            reason=line.reason,
            short=line.short,
            cancelled=line.cancelled or UNSET,
            held_back=(line.sku in record.held_back and bool(line.preordered or line.short)) or UNSET,
            promised_at=_time(line.promised_at),
            first_promised_at=_time(line.first_promised_at),
            slips=UNSET if line.first_promised_at is None else line.slips,
        )
        for line in record.lines
    ]
    expires_at = None if record.expires_at is None or record.state not in _EXPIRING else rfc3339(record.expires_at)
    return order_id, record.channel, record.state, lines, rfc3339(record.placed_at), expires_at, record.sequence


def is_order(record: OrderRecord | None) -> bool:
    """Whether the record has a row: it is an order, or a request for one, and not only parked events."""
    return record is not None and record.state != PARKED


def approval_view(order_id: str, order: OrderRecord, record: ApprovalRecord, replayed: bool = False) -> Approval:
    """The approval of a forced order; its id is that of the order."""
    is_given = record.state in ("approved", "refused")
    return Approval(
        id=order_id,
        kind="force_order",
        order_id=order_id,
        channel=order.channel,
        state=record.state or "waiting",
        requested_by=record.by,
        reason=record.reason,
        requested_at=rfc3339(record.asked_at),
        expires_at=rfc3339(record.ends_at),
        approved_by=record.decided_by if is_given else None,
        rejected_by=record.decided_by if record.state == "rejected" else None,
        decided_at=rfc3339(record.decided_at) if record.state else None,
        comment=record.comment,
        outcome=order.outcome if is_given else None,
        lines=[RequestedLine(line.sku, line.quantity) for line in order.lines],
        replayed=replayed,
    )


def stock_view(sku: str, record: SkuRecord, offers: Iterable[Offer]) -> StockAnswer:
    """The answer of `GET /v1/stock/{sku}`: totals, each warehouse, each known channel."""
    units_at: dict[str, dict[str, int]] = {name: _no_units() for name in record.warehouses}
    preordered = incoming = short = 0
    for name, units in record.counters.items():
        what, place = split_counter(name)
        if what == "preordered":
            preordered += units
        elif what == "incoming":
            incoming += units
        elif what == "short":
            short += units
        else:
            numbers = units_at.get(place)
            if numbers is None:
                numbers = units_at[place] = _no_units()
            numbers[what] = numbers.get(what, 0) + units
    warehouses: dict[str, WarehouseStock] = {}
    on_hand = committed = locked = reserved = damaged = 0
    for place, numbers in units_at.items():
        stock = warehouses[place] = _warehouse_stock(numbers)
        on_hand += stock.on_hand
        committed += stock.committed
        locked += stock.locked
        reserved += stock.reserved
        damaged += stock.damaged
    return StockAnswer(
        sku=sku,
        version=record.version,
        on_hand=on_hand,
        committed=committed,
        physical=on_hand - committed,
        locked=locked,
        reserved=reserved,
        available=on_hand - committed - locked - reserved - short,
        short=short,
        preordered=preordered,
        incoming=incoming,
        damaged=damaged,
        warehouses=warehouses,
        channels={
            offer.channel: ChannelStock(
                offer.mode, offer.quantity, offer.preorder_remaining, _time(offer.available_from)
            )
            for offer in offers
        },
        as_of=rfc3339(record.at),
    )


def published_stock(sku: str, record: SkuRecord, offers: Iterable[Offer], batch: int) -> PublishedStock:
    """A row of `stock`."""
    intervals = {offer.channel: offer.publish_interval_ms for offer in offers if offer.publish_interval_ms is not None}
    fields = structs.astuple(stock_view(sku, record, offers))[:-1]  # without `stale`
    published: Callable[..., PublishedStock] = PublishedStock
    return published(*fields, batch, intervals, record)


def movement_view(warehouse: str, id: str, record: MovementRecord) -> MovementAnswer:
    """A movement of the contract, with its effect or its refusal."""
    return MovementAnswer(
        warehouse=warehouse,
        id=id,
        type=MOVEMENT_TYPES.get(record.kind, record.kind),
        outcome=record.outcome,
        detail=record.detail,
        occurred_at=rfc3339(record.at),
        applied_at=rfc3339(record.applied_at),
        lines=[
            MovedLine(line.sku, line.quantity, line.outcome, line.change, line.on_hand, line.damaged, line.carried)
            for line in record.lines
        ],
        movement_id=record.voids or UNSET,
        voided_by=record.voided_by or UNSET,
    )


def published_movement(warehouse: str, id: str, record: MovementRecord, batch: int) -> PublishedMovement:
    """A row of `adjustments`."""
    document = movement_view(warehouse, id, record)
    return PublishedMovement(*structs.astuple(document), batch=batch, record=record)


def announcement_view(warehouse: str, id: str, record: MovementRecord) -> Announcement:
    """An announcement of the contract, without lines of which nothing is announced any more and nothing came."""
    lines = [
        AnnouncedLine(line.sku, line.quantity, line.received, line.incoming, max(0, line.received - line.quantity))
        for line in record.lines
        if line.received or line.outcome == Outcome.EXPECTED
    ]
    return Announcement(
        id=id,
        warehouse=warehouse,
        state=_announcement_state(lines),
        eta=rfc3339(record.eta or 0),
        overdue=record.is_open and record.overdue,
        amendments=record.amendments,
        occurred_at=rfc3339(record.at),
        changed_at=rfc3339(record.applied_at),
        lines=lines,
    )


def _announcement_state(lines: list[AnnouncedLine]) -> str:
    if any(line.incoming for line in lines):
        return "partly_received" if any(line.received for line in lines) else "expected"
    if not any(line.quantity for line in lines):
        return "withdrawn"
    return "over_received" if any(line.over for line in lines) else "received"


def channel_update(sku: str, version: int, at_ms: int, offer: Offer) -> ChannelUpdate:
    """A channel update of the contract: a channel's offer of a SKU."""
    return ChannelUpdate(
        channel=offer.channel,
        sku=sku,
        quantity=offer.quantity,
        mode=offer.mode,
        preorder_remaining=offer.preorder_remaining,
        version=version,
        as_of=rfc3339(at_ms),
        available_from=_time(offer.available_from),
    )


def _no_units() -> dict[str, int]:
    return {"on_hand": 0, "committed": 0, "locked": 0, "reserved": 0, "damaged": 0}


def _warehouse_stock(units: dict[str, int]) -> WarehouseStock:
    on_hand, committed, locked, reserved = units["on_hand"], units["committed"], units["locked"], units["reserved"]
    physical = on_hand - committed
    available = physical - locked - reserved
    return WarehouseStock(on_hand, committed, physical, locked, reserved, available, units["damaged"])


@lru_cache(maxsize=_NAMES_CACHED)
def split_counter(name: str) -> tuple[str, str]:
    """`on_hand@SH1` → (on_hand, SH1); `reserved#vip@SH1` → (reserved, SH1); `incoming#po-9` → incoming."""
    what, _, place = name.partition("@")
    return what.partition("#")[0], place
