"""Decisions whose records stay packed, for readers that need only the newest record of each key.

In: msgpack of `tables.ledger.records.Decision`. Out: decisions that cost a tenth of the whole to decode.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from stocktide.tables.ledger.records import (
    DecisionFrame,
    MovementRecord,
    Offer,
    OrderRecord,
    SkuRecord,
    check_format,
)


class PackedOrder(Struct, array_like=True):
    """`tables.ledger.records.OrderRow` with a packed record."""

    order_id: str
    record: Raw
    changed: bool


class PackedMovement(Struct, array_like=True):
    """`tables.ledger.records.MovementRow` with a packed record."""

    warehouse: str
    id: str
    record: Raw
    changed: bool


class PackedSku(Struct, array_like=True):
    """`tables.ledger.records.SkuRow` with a packed record and packed offers."""

    sku: str
    record: Raw
    offers: Raw


class RawDecision(DecisionFrame, frozen=True, array_like=True):
    """`tables.ledger.records.Decision` with packed records, effects, registry, patches and moves."""

    orders: tuple[PackedOrder, ...]
    movements: tuple[PackedMovement, ...]
    skus: tuple[PackedSku, ...]
    effects: Raw
    registry: Raw
    patches: Raw = Raw(b"\x92\x90\x90")
    moves: Raw = Raw(b"\x90")


_DECISION = msgspec.msgpack.Decoder(RawDecision)
unpack_order = msgspec.msgpack.Decoder(OrderRecord).decode
unpack_movement = msgspec.msgpack.Decoder(MovementRecord).decode
unpack_sku = msgspec.msgpack.Decoder(SkuRecord).decode
unpack_offers = msgspec.msgpack.Decoder(tuple[Offer, ...]).decode


def decode_raw_decision(payload: bytes) -> RawDecision:
    """Decode a journal payload except its records. Raises `msgspec.DecodeError` if Lua's format differs."""
    decision = _DECISION.decode(payload)
    check_format(decision.format)
    return decision
