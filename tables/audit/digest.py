"""The digest of a state: equal for equal states, whatever their packing and order.

In: records of `tables.ledger.records` with their kind and key, or a Redis. Out: a number of keys and 128 bits, in total
and by kind. The digest is a sum: keys can be removed again, and sides can be read in any order and in parallel.
Differences in packing only (the order of a map, explicit defaults, `()` for an empty map) do not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import structs
from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, RegistryRecord, SkuRecord
from stocktide.tables.ledger.scripts import key_prefix

# `parked`: events that wait for their order, stored under its key; they are in no table.
Kind = Literal["sku", "order", "parked", "movement", "registry"]
KINDS: tuple[Kind, ...] = ("sku", "order", "parked", "movement", "registry")
StoredKind = Literal["sku", "order", "movement", "registry"]
Record = SkuRecord | OrderRecord | MovementRecord | RegistryRecord
ReportKeys = Callable[[int], None]

FINAL_STATES = frozenset({"shipped", "cancelled", "expired", "rejected"})
# A key that is about to expire may be present on one side only.
EXPIRY_MARGIN_MS = 60_000
# Keys per SCAN: Redis blocks for some ms.
_SCAN_KEYS = 1_000
_BYTES = 16
_MODULUS = 1 << (8 * _BYTES)
_NEVER = 1 << 62

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "sku": msgspec.msgpack.Decoder(SkuRecord),
    "order": msgspec.msgpack.Decoder(OrderRecord),
    "movement": msgspec.msgpack.Decoder(MovementRecord),
    "registry": msgspec.msgpack.Decoder(RegistryRecord),
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
    record: Record = _DECODERS[stored_kind(kind)].decode(packed)
    return record


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
        return record.applied_at + limits.movement_retention_ms
    if isinstance(record, OrderRecord) and record.state in FINAL_STATES:
        rejected = record.state == "rejected"
        return (record.ended_at or 0) + (limits.refused_retention_ms if rejected else limits.order_retention_ms)
    return _NEVER


def _ignore(_: int) -> None:
    pass


async def digest_of_redis(
    redis: Redis,
    app_id: str,
    progress: ReportKeys = _ignore,
    *,
    as_of_ms: int | None = None,
    limits: LedgerLimits | None = None,
    shard: int = 0,
) -> Digest:
    """The digest of the keys of `app_id` in an idle Redis, blessed or not.

    `progress` is called with the number of keys read. Keys that expire within a minute of `as_of_ms` (default: now), or
    before, are left out, so that two servers can be compared as of one time. Raises redis-py's errors, and
    msgspec.MsgspecError if a key holds no record.
    """
    as_of_ms = now_ms() if as_of_ms is None else as_of_ms
    limits = limits or LedgerLimits()
    prefix = key_prefix(app_id, shard).encode()
    digest, keys_read = Digest(), 0
    seen: set[int] = set()  # a scan may give a key twice, and a sum counts it twice
    cursor = 0
    while True:
        page: tuple[int, list[bytes]] = await redis.scan(cursor, match=prefix + b"*", count=_SCAN_KEYS)  # type: ignore[assignment]
        cursor, names = page
        named = [
            found for name in names if (found := _parse_name(name[len(prefix) :])) and not _seen_before(name, seen)
        ]
        values: list[bytes | None] = (
            await redis.mget([prefix + raw for raw, _, _ in named]) if named else []  # type: ignore[assignment]
        )
        for (_, kind, key), packed in zip(named, values, strict=True):
            if packed is None:
                continue  # expired meanwhile
            record = decode(kind, packed)
            if kept_until(record, limits) > as_of_ms + EXPIRY_MARGIN_MS:
                digest.add(kind_of(record), key, record)
        keys_read += len(named)
        progress(keys_read)
        await asyncio.sleep(0)
        if not cursor:
            return digest


def _seen_before(name: bytes, seen: set[int]) -> bool:
    mark = hash(name)
    if mark in seen:
        return True
    seen.add(mark)
    return False


def _parse_name(raw: bytes) -> tuple[bytes, Kind, str] | None:
    """A key's name without the prefix as (name, kind, key); None if it holds no record."""
    if raw == b"registry":
        return raw, "registry", ""
    word, colon, key = raw.partition(b":")
    kind = word.decode(errors="replace")
    if colon and kind in ("sku", "order", "movement"):
        return raw, kind, key.decode()  # type: ignore[return-value]
    return None
