"""Batches whose records are left as they are packed: who wants only the newest of each key reads only that.

In: msgpack of `tables.ledger.records.Decision`. Out: frames that cost a tenth of the whole.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from stocktide.tables.ledger.records import (
    Alert,
    MovementRecord,
    Offer,
    OrderRecord,
    PolicyRow,
    RefusedEvent,
    RepairRow,
    Result,
    SkuRecord,
    check_format,
)


class PackedOrder(Struct, array_like=True):
    """`tables.ledger.records.OrderRow`, its record unread."""

    order_id: str
    record: Raw
    changed: bool


class PackedMovement(Struct, array_like=True):
    """`tables.ledger.records.MovementRow`, its record unread."""

    warehouse: str
    id: str
    record: Raw
    changed: bool


class PackedSku(Struct, array_like=True):
    """`tables.ledger.records.SkuRow`, its record and offers unread."""

    sku: str
    record: Raw
    offers: Raw


class RawDecision(Struct, array_like=True):
    """`tables.ledger.records.Decision` as derivations and callers read it: states unread, effects and registry
    skipped."""

    format: int
    batch: int
    at: int
    results: tuple[Result, ...]
    orders: tuple[PackedOrder, ...]
    movements: tuple[PackedMovement, ...]
    skus: tuple[PackedSku, ...]
    effects: Raw
    policies: tuple[PolicyRow, ...]
    registry: Raw
    alerts: tuple[Alert, ...]
    refused: tuple[RefusedEvent, ...]
    repairs: tuple[RepairRow, ...] = ()
    patches: Raw = Raw()


_DECISION = msgspec.msgpack.Decoder(RawDecision)
unpack_order = msgspec.msgpack.Decoder(OrderRecord).decode
unpack_movement = msgspec.msgpack.Decoder(MovementRecord).decode
unpack_sku = msgspec.msgpack.Decoder(SkuRecord).decode
unpack_offers = msgspec.msgpack.Decoder(tuple[Offer, ...]).decode


def decode_raw_decision(payload: bytes) -> RawDecision:
    """Decode a journal payload but for its records. Raises `msgspec.DecodeError` where Lua and Python have parted."""
    decision = _DECISION.decode(payload)
    check_format(decision.format)
    return decision
