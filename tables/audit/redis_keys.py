"""The audit's reads of Redis: keys with their index entries as of one batch, and the names of all keys.

In: a blessed Redis. Out: `RedisReading`, atomic; and pages of names and index entries, which are not atomic: a suspect
in a page is read again, atomically. Also the digest of an idle Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha1
from typing import Any

import msgspec
from msgspec import Struct, field
from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms
from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, Digest, Kind, Record, canonical, decode, kept_until, kind_of
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.scripts import Script, key_prefix

# Keys per call: Redis blocks for a ms or two.
READ_KEYS_MAX = 500
# Keys or members per scan: likewise.
_SCAN_COUNT = 1_000
# Indexes scanned in one round trip.
_INDEXES_PER_TRIP = 100
# The mark of an absent key; that of a key that is no string is `type:` and its type.
ABSENT = "absent"
# The indexes of SKUs beside `skus`, in the order of audit.lua.
SKU_INDEXES = ("dwells", "fills", "pools", "promises")

_encode = msgspec.msgpack.Encoder().encode


class WantedKey(Struct, frozen=True, array_like=True):
    """A key to read; for an order, `indexes` are those of holds and queues that are searched, by their names."""

    kind: Kind
    key: str
    indexes: tuple[str, ...] = ()


class StoredKey(Struct, frozen=True):
    """A key in Redis. `type` as Redis names it, `none` if absent. `ends_in_ms`: -1 if it does not expire. Scores are
    None if there is no entry."""

    type: str
    packed: bytes = b""
    ends_in_ms: int = -1
    known: float | None = None
    # Of a SKU, in SKU_INDEXES.
    indexed: tuple[float | None, ...] = (None,) * len(SKU_INDEXES)
    deadline: float | None = None
    waiting: float | None = None
    entries: dict[str, float | None] = field(default_factory=dict)
    # Of an announcement, in `expected`, `etas` and `overdue`.
    announced: tuple[float | None, ...] = (None, None, None)

    def record(self, kind: Kind) -> Record | None:
        """The canonical record in the key, or None if it holds none."""
        try:
            return canonical(decode(kind, self.packed)) if self.type == "string" else None
        except msgspec.MsgspecError:
            return None

    @property
    def mark(self) -> str:
        """The fingerprint of the value, as in `includes/repair.lua`."""
        if self.type == "none":
            return ABSENT
        return sha1(self.packed, usedforsecurity=False).hexdigest() if self.type == "string" else f"type:{self.type}"


class RedisReading(Struct, frozen=True):
    """Keys as of a batch, in the requested order. `at`: the server's time, ms."""

    batch: int
    token: str
    at: int
    keys: tuple[StoredKey, ...]


class RedisSide:
    """One shard in one Redis. Raises redis-py's errors; a ResponseError that begins with UNBLESSED if the server is not
    blessed."""

    def __init__(self, redis: Redis, app_id: str, shard: int = 0) -> None:
        self._redis = redis
        self._prefix = key_prefix(app_id, shard)
        self._script = Script(redis, self._prefix, "audit")

    async def read(self, wanted: Sequence[WantedKey], *, deep: bool = False) -> RedisReading:
        """Read at most READ_KEYS_MAX keys as of one batch. `deep`: also search the indexes of the SKUs in the orders'
        stored records."""
        answer = await self._script(_encode(wanted), "1" if deep else "0")
        batch, token, at, *found = answer
        keys = tuple(_stored(each.kind, values) for each, values in zip(wanted, found, strict=True))
        return RedisReading(batch, token.decode(), at, keys)

    async def settled(self) -> int:
        """The newest settled batch of this server."""
        return int(await self._redis.hget(self._prefix + "settled", "batch") or 0)

    async def names(self) -> AsyncIterator[list[bytes]]:
        """The names of all keys without the prefix, in pages; a name may occur twice."""
        cursor, start = 0, len(self._prefix)
        while True:
            page: Any = await self._redis.scan(cursor, match=self._prefix + "*", count=_SCAN_COUNT)
            cursor, found = page
            yield [name[start:] for name in found]
            if not cursor:
                return

    async def size(self) -> int:
        """The approximate number of keys, including those of other apps in this Redis."""
        return int(await self._redis.dbsize())

    async def members(self, index: str) -> AsyncIterator[list[tuple[str, float]]]:
        """The entries of an index, in pages."""
        cursor = 0
        while True:
            page: Any = await self._redis.zscan(self._prefix + index, cursor, count=_SCAN_COUNT)
            cursor, found = page
            yield [(_text(member), score) for member, score in found]
            if not cursor:
                return

    async def summed_groups(self) -> set[str]:
        """The groups with a sum of unpaid units."""
        sums: Any = await self._redis.hgetall(self._prefix + "unpaid")
        return {_text(group) for group in sums}

    async def unpaid_of(self, group: str) -> tuple[int, int | None]:
        """The unpaid units in the index of a group, and their stored sum (None: it is counted when it is needed)."""
        *_, (units, stored) = await self._script(_encode([("unpaid", group, ())]), "0")
        return units, None if stored is None else int(stored)

    async def entries(self, indexes: Sequence[str]) -> AsyncIterator[tuple[str, list[tuple[str, float]]]]:
        """The entries of many indexes: (name, entries), in pages."""
        for start in range(0, len(indexes), _INDEXES_PER_TRIP):
            left = dict.fromkeys(indexes[start : start + _INDEXES_PER_TRIP], 0)
            while left:
                pipeline = self._redis.pipeline(transaction=False)
                asked = list(left.items())
                for index, cursor in asked:
                    pipeline.zscan(self._prefix + index, cursor, count=_SCAN_COUNT)
                for (index, _), (cursor, found) in zip(asked, await pipeline.execute(), strict=True):
                    yield index, [(_text(member), score) for member, score in found]
                    if cursor:
                        left[index] = cursor
                    else:
                        del left[index]


async def digest_of_redis(
    redis: Redis,
    app_id: str,
    progress: Callable[[int], None] = lambda _: None,
    *,
    as_of_ms: int | None = None,
    limits: LedgerLimits | None = None,
) -> Digest:
    """The digest of the keys of `app_id` in an idle Redis, blessed or not.

    `progress` is called with the number of keys read. Keys that expire within a minute of `as_of_ms` (default: now), or
    before, are left out, so that two servers can be compared as of one time. Raises redis-py's errors, and
    msgspec.MsgspecError if a key holds no record.
    """
    as_of_ms = now_ms() if as_of_ms is None else as_of_ms
    limits = limits or LedgerLimits()
    prefix = key_prefix(app_id).encode()
    digest, keys_read = Digest(), 0
    seen: set[int] = set()  # a scan may give a key twice, and a sum counts it twice
    async for names in RedisSide(redis, app_id).names():
        new = {name: found for name in names if hash(name) not in seen and (found := _parse_name(name))}
        seen.update(map(hash, new))
        values: Any = await redis.mget([prefix + name for name in new]) if new else []
        for (kind, key), packed in zip(new.values(), values, strict=True):
            if packed is None:
                continue  # expired meanwhile
            record = decode(kind, packed)
            if kept_until(record, limits) > as_of_ms + EXPIRY_MARGIN_MS:
                digest.add(kind_of(record), key, record)
        keys_read += len(new)
        progress(keys_read)
        await asyncio.sleep(0)
    return digest


def _parse_name(name: bytes) -> tuple[Kind, str] | None:
    """The kind and key of a name without the prefix; None if it holds no record."""
    word, colon, key = name.partition(b":")
    kind = word.decode(errors="replace")
    if name == b"registry":
        return "registry", ""
    return (kind, key.decode()) if colon and kind in ("sku", "order", "movement") else None  # type: ignore[return-value]


def _stored(kind: Kind, values: Sequence[Any]) -> StoredKey:
    type_, packed, ends_in_ms, *scores = values
    common = (type_.decode(), packed, ends_in_ms)
    if kind == "sku":
        known, *indexed = map(_score, scores)
        return StoredKey(*common, known=known, indexed=tuple(indexed))
    if kind == "order":
        pairs = zip(scores[2::2], scores[3::2], strict=True)
        entries = {_text(index): _score(score) for index, score in pairs}
        return StoredKey(*common, deadline=_score(scores[0]), waiting=_score(scores[1]), entries=entries)
    return StoredKey(*common, announced=tuple(map(_score, scores))) if scores else StoredKey(*common)


def _score(found: bytes | None) -> float | None:
    return None if found is None else float(found)


def _text(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 are escaped."""
    return name.decode(errors="backslashreplace")
