"""The digest of a state: equal for equal states, whatever their packing and order.

In: records of `tables.ledger.records` with their kind and key. Out: a number of keys and 128 bits, in total
and by kind. The digest is a sum: keys can be removed again, and sides can be read in any order and in parallel.
Differences in packing only (the order of a map, explicit defaults, `()` for an empty map) do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import structs

from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.packed import unpack_order, unpack_sku
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, RegistryRecord, SkuRecord

# `parked`: events that wait for their order, stored under its key; they are in no table.
Kind = Literal["sku", "order", "parked", "movement", "registry"]
KINDS: tuple[Kind, ...] = ("sku", "order", "parked", "movement", "registry")
StoredKind = Literal["sku", "order", "movement", "registry"]
Record = SkuRecord | OrderRecord | MovementRecord | RegistryRecord

FINAL_STATES = frozenset({"shipped", "cancelled", "expired", "rejected"})
# A key that is about to expire may be present on one side only.
EXPIRY_MARGIN_MS = 60_000
_BYTES = 16
_MODULUS = 1 << (8 * _BYTES)
_NEVER = 1 << 62

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_DECODERS: dict[str, Callable[[bytes], Record]] = {
    "sku": unpack_sku,
    "order": unpack_order,
    "movement": msgspec.msgpack.Decoder(MovementRecord).decode,
    "registry": msgspec.msgpack.Decoder(RegistryRecord).decode,
}


class Digest:
    """The sum over the keys of a state."""

    def __init__(self) -> None:
        self._sums: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    def add(self, kind: Kind, key: str, record: Record) -> None:
        """Add a key. `key` as in Redis: the sku, the order_id, `warehouse\\nid`, or "" for the registry."""
        self._sums[kind] = (self._sums[kind] + key_hash(kind, key, record)) % _MODULUS
        self._counts[kind] += 1

    def remove(self, kind: Kind, key: str, record: Record) -> None:
        """Remove a key that was added with this record."""
        self._sums[kind] = (self._sums[kind] - key_hash(kind, key, record)) % _MODULUS
        self._counts[kind] -= 1

    def copy(self) -> Digest:
        """An independent copy."""
        other = Digest()
        other._sums, other._counts = dict(self._sums), dict(self._counts)
        return other

    def hex(self, *kinds: Kind) -> str:
        """32 hex digits, of the given kinds or of all."""
        total = sum(self._sums[kind] for kind in kinds or KINDS) % _MODULUS
        return f"{total:0{2 * _BYTES}x}"

    @property
    def keys(self) -> int:
        """The number of keys."""
        return sum(self._counts.values())

    def by_kind(self) -> dict[str, dict[str, int | str]]:
        """For a report: `{"sku": {"keys": 3, "digest": "…"}, …}`."""
        return {kind: {"keys": self._counts[kind], "digest": self.hex(kind)} for kind in KINDS}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._sums == other._sums and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]


def canonical(record: Record) -> Record:
    """The record in canonical form; the same object if it already is."""
    if isinstance(record, SkuRecord):
        if 0 in record.counters.values():
            record = structs.replace(record, counters={name: n for name, n in record.counters.items() if n})
        if () in record.policies.values():
            record = structs.replace(record, policies={name: dict(level) for name, level in record.policies.items()})
    elif isinstance(record, RegistryRecord) and () in record.before.values():
        record = structs.replace(record, before={name: dict(level) for name, level in record.before.items()})
    return record


def key_hash(kind: Kind, key: str, record: Record) -> int:
    """The summand of one key."""
    return int.from_bytes(blake2b(_encode((kind, key, canonical(record))), digest_size=_BYTES).digest())


def stored_kind(kind: Kind) -> StoredKind:
    """The kind whose keys hold the record: parked events are stored under their order's."""
    return "order" if kind == "parked" else kind


def decode(kind: Kind, packed: bytes) -> Record:
    """Decode a record of that kind from Redis or the journal. Raises msgspec.MsgspecError."""
    return _DECODERS[stored_kind(kind)](packed)


def kind_of(record: Record) -> Kind:
    """The kind of a record."""
    if isinstance(record, OrderRecord):
        return "parked" if record.state == "parked" else "order"
    if isinstance(record, SkuRecord):
        return "sku"
    return "movement" if isinstance(record, MovementRecord) else "registry"


def kept_until(record: Record, limits: LedgerLimits) -> int:
    """When the record's key expires, ms since the epoch; _NEVER if it does not."""
    if isinstance(record, MovementRecord):
        return _NEVER if record.is_open else record.applied_at + limits.movement_retention_ms
    if isinstance(record, OrderRecord) and record.state in FINAL_STATES:
        rejected = record.state == "rejected"
        return (record.ended_at or 0) + (limits.refused_retention_ms if rejected else limits.order_retention_ms)
    return _NEVER
