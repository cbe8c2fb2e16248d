"""The ledger's records as the JSON of the contract.

In: typed records of `tables.ledger.records`. Out: plain dicts with the fields of the contract, in its order, for
orjson. Pure, and written for speed: the derivations call these once per published row.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from stocktide.tables.ledger.records import MovementRecord, Offer, OrderRecord, SkuRecord

View = dict[str, Any]

# A movement's type in the contract, by the kind of its command.
MOVEMENT_TYPES = {
    "receive": "stock.received",
    "adjust": "stock.adjusted",
    "count": "stock.counted",
    "transfer": "stock.transferred",
}
# A record in this state holds events that arrived before their order; to callers the order is unknown.
PARKED = "parked"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Times of one batch, and of the holds that begin in it, share their second: the cache covers enough of them.
_SECONDS_CACHED = 4096
# Counter names are few: some per warehouse, channel and pool.
_NAMES_CACHED = 65_536


def rfc3339(ms: int) -> str:
    """ms since the epoch → `2026-11-11T00:00:00.000Z`, clamped to the years 1 to 9999."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=_SECONDS_CACHED)
def _second(seconds: int) -> str:
    try:
        at = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        at = datetime.max if seconds > 0 else datetime.min
    return at.isoformat(timespec="seconds")[:19]


def order_view(order_id: str, record: OrderRecord, replayed: bool | None = None) -> View:
    """An order of the contract; `replayed` None: the field is omitted (in rows of topics).

    A `parked` record is no order; check `is_order` first.
    """
    expires_at = record.expires_at if record.state == "reserved" else None
    view: View = {
        "order_id": order_id,
        "channel": record.channel,
        "state": record.state,
        "lines": [
            {
                "sku": line.sku,
                "quantity": line.quantity,
                "state": line.state,
                "reserved": line.reserved,
                "preordered": line.preordered,
                "shipped": line.shipped,
                "returned": line.returned,
                "warehouses": line.warehouses,
                "reason": line.reason,
            }
            for line in record.lines
        ],
        "placed_at": rfc3339(record.placed_at),
        "expires_at": None if expires_at is None else rfc3339(expires_at),
        "sequence": record.sequence,
    }
    if replayed is not None:
        view["replayed"] = replayed
    return view


def is_order(record: OrderRecord | None) -> bool:
    """Whether the record is an order that callers may see, and not only parked events."""
    return record is not None and record.state != PARKED


def stock_view(sku: str, record: SkuRecord, offers: Iterable[Offer]) -> View:
    """The answer of `GET /v1/stock/{sku}`: totals, each warehouse, each known channel."""
    warehouses: dict[str, dict[str, int]] = {name: _empty_warehouse() for name in record.warehouses}
    preordered = incoming = 0
    for name, units in record.counters.items():
        what, place = split_counter(name)
        if what == "preordered":
            preordered += units
        elif what == "incoming":
            incoming += units
        else:
            numbers = warehouses.get(place)
            if numbers is None:
                numbers = warehouses[place] = _empty_warehouse()
            numbers[what] = numbers.get(what, 0) + units
    on_hand = committed = locked = reserved = damaged = 0
    for numbers in warehouses.values():
        physical = numbers["physical"] = numbers["on_hand"] - numbers["committed"]
        numbers["available"] = physical - numbers["locked"] - numbers["reserved"]
        on_hand += numbers["on_hand"]
        committed += numbers["committed"]
        locked += numbers["locked"]
        reserved += numbers["reserved"]
        damaged += numbers["damaged"]
    return {
        "sku": sku,
        "version": record.version,
        "on_hand": on_hand,
        "committed": committed,
        "physical": on_hand - committed,
        "locked": locked,
        "reserved": reserved,
        "available": on_hand - committed - locked - reserved,
        "preordered": preordered,
        "incoming": incoming,
        "damaged": damaged,
        "warehouses": warehouses,
        "channels": {
            offer.channel: {
                "mode": offer.mode,
                "quantity": offer.quantity,
                "preorder_remaining": offer.preorder_remaining,
            }
            for offer in offers
        },
        "as_of": rfc3339(record.at),
    }


def movement_view(warehouse: str, id: str, record: MovementRecord) -> View:
    """A movement of the contract, with its effect or its refusal."""
    return {
        "warehouse": warehouse,
        "id": id,
        "type": MOVEMENT_TYPES.get(record.kind, record.kind),
        "outcome": record.outcome,
        "detail": record.detail,
        "occurred_at": rfc3339(record.at),
        "applied_at": rfc3339(record.applied_at),
        "lines": [
            {
                "sku": line.sku,
                "quantity": line.quantity,
                "outcome": line.outcome,
                "change": line.change,
                "on_hand": line.on_hand,
                "damaged": line.damaged,
                "carried": line.carried,
            }
            for line in record.lines
        ],
    }


def channel_update(sku: str, version: int, at_ms: int, offer: Offer) -> View:
    """A channel update of the contract: a channel's offer of a SKU."""
    return {
        "channel": offer.channel,
        "sku": sku,
        "quantity": offer.quantity,
        "mode": offer.mode,
        "preorder_remaining": offer.preorder_remaining,
        "version": version,
        "as_of": rfc3339(at_ms),
    }


def _empty_warehouse() -> dict[str, int]:
    return {
        "on_hand": 0,
        "committed": 0,
        "physical": 0,
        "locked": 0,
        "reserved": 0,
        "available": 0,
        "damaged": 0,
    }


@lru_cache(maxsize=_NAMES_CACHED)
def split_counter(name: str) -> tuple[str, str]:
    """`on_hand@SH1` → (on_hand, SH1); `reserved#vip@SH1` → (reserved, SH1); `incoming#po-9` → incoming."""
    what, _, place = name.partition("@")
    kind, _, pool = what.partition("#")
    if kind == "reserved" and pool:
        # A purpose may contain an @; the warehouse follows the last one.
        place = name.rpartition("@")[2]
    return kind, place
