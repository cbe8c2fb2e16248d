"""Partial decoding of batches for the fold: records stay packed, and only a few of their fields are decoded.

In: msgpack of `tables.ledger.records.Decision` and of its records. Out: small structs, because there are millions.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from stocktide.tables.ledger.raw_decision import PackedMovement, PackedOrder, PackedSku
from stocktide.tables.ledger.records import Effect, Patches, PolicyRow


class _Result(Struct):
    outcome: str


class PackedRepair(Struct, array_like=True):
    subject: str
    key: str
    id: str
    actor: str
    why: str
    before: Raw
    after: Raw


class PackedDecision(Struct, array_like=True):
    """`tables.ledger.records.Decision` with packed records."""

    format: int
    batch: int
    at: int
    results: Raw
    orders: tuple[PackedOrder, ...]
    movements: tuple[PackedMovement, ...]
    skus: tuple[PackedSku, ...]
    effects: tuple[Effect, ...]
    policies: tuple[PolicyRow, ...]
    registry: Raw
    alerts: Raw
    refused: Raw
    repairs: tuple[PackedRepair, ...] = ()
    patches: Patches = Patches()


class _Ends(Struct):
    """The fields that determine when an order's key expires."""

    state: str
    ended_at: int | None = None
    parked: tuple[Raw, ...] = ()


class _Applied(Struct):
    applied_at: int


class PackedCounters(Struct):
    version: int
    counters: dict[str, int] = field(default_factory=dict)


unpack_decision = msgspec.msgpack.Decoder(PackedDecision).decode
unpack_ends = msgspec.msgpack.Decoder(_Ends).decode
unpack_applied = msgspec.msgpack.Decoder(_Applied).decode
unpack_results = msgspec.msgpack.Decoder(tuple[_Result, ...]).decode
unpack_counted = msgspec.msgpack.Decoder(PackedCounters).decode
pack = msgspec.msgpack.Encoder().encode
NIL = b"\xc0"
