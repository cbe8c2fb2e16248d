"""The comparison of Redis with the log, exact during live traffic.

In: a fold of the log, a follower that moves it, a Redis that changes. Out: the keys with lasting differences. The
first scan compares with the current fold; keys that differ may only have changed since. Each of these suspects is read
again atomically with its batch, and compared with the fold at exactly that batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

from msgspec import Struct

from stocktide.tables.audit.compare import (
    ANNOUNCEMENT_INDEXES,
    Difference,
    announcement_entries,
    compare_stored,
    deadline_of,
    entries_of,
    parked_bytes_of,
    sku_entry,
)
from stocktide.tables.audit.digest import Kind, Record
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import AuditError, JournalFollower, ReportProgress
from stocktide.tables.audit.redis_keys import READ_KEYS_MAX, SKU_INDEXES, RedisReading, RedisSide, StoredKey, WantedKey
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.records import OrderRecord, RegistryRecord


def _announced(place: int, record: Record | None) -> int | None:
    return announcement_entries(record)[place]


# The expected score of an entry, by index.
_SCORES: dict[str, Callable[[Record | None], int | None]] = {
    "deadlines": deadline_of,
    "waiting": parked_bytes_of,
    **{index: partial(sku_entry, index) for index in SKU_INDEXES},
    **{index: partial(_announced, place) for place, index in enumerate(ANNOUNCEMENT_INDEXES)},
}
# The keys of a shard that are neither records nor indexes of holds or queues.
_OWN_KEYS = frozenset(
    {"head", "settled", "blessed", "outbox", "restate", "waiting_bytes", "patched", "moves-from", "counts", "unpaid"}
    | {"skus", *_SCORES}
)
# Readings whose batch is lost because Redis restarted without it; more are an outage.
_LOST_READINGS_MAX = 5
_KINDS: tuple[Kind, ...] = ("sku", "order", "movement", "registry")

RedisKey = tuple[Kind, str]


class ExaminedKey(Struct):
    """A key read exactly: its content in Redis, and the differences from the log as of the same batch."""

    kind: Kind
    key: str
    stored: StoredKey
    differences: tuple[Difference, ...]


class RedisPass:
    """One pass over one Redis. `skus`: only those SKUs and orders with them."""

    def __init__(
        self,
        fold: JournalFold,
        follower: JournalFollower,
        side: RedisSide,
        limits: LedgerLimits,
        report: ReportProgress,
        skus: frozenset[str] | None = None,
    ) -> None:
        self._fold = fold
        self._follower = follower
        self._side = side
        self._limits = limits
        self._report = report
        self._skus = skus
        # Suspects with the indexes of holds and queues in which they were found.
        self._suspects: dict[RedisKey, set[str]] = {}
        self._foreign: set[str] = set()
        # Sums of unpaid units that differ from what they sum.
        self.sums: list[Difference] = []
        self.compared = 0
        self.in_flight = 0

    async def run(self) -> dict[RedisKey, ExaminedKey]:
        """The differing keys. Raises AuditError and redis-py's errors."""
        await self._scan_known()
        if self._skus is None:
            indexes = await self._scan_names()
            for index in (*_SCORES, "skus"):
                await self._scan_index(index)
        else:
            indexes = self._indexes_of(self._skus)
        await self._scan_entries(indexes)
        if self._skus is None:
            await self._check_sums(indexes)
        suspects, self._suspects = self._suspects, {}
        drifting = {}
        async for found in self.examine(suspects):
            if found.differences:
                drifting[found.kind, found.key] = found
        self.in_flight = len(suspects) - len(drifting)
        return drifting

    def _indexes_of(self, skus: Iterable[str]) -> list[str]:
        """The names of the indexes of holds and queues of some SKUs."""
        registry = self._fold.record("registry", "")
        channels = registry.names if isinstance(registry, RegistryRecord) else ()
        queues = [f"queue:{sku}\n{channel}" for sku in skus for channel in channels]
        return [*(f"held:{sku}" for sku in sorted(skus)), *queues]

    @property
    def foreign(self) -> tuple[str, ...]:
        """Names, without the prefix, of keys that are not Stocktide's."""
        return tuple(sorted(self._foreign))

    # The first scan

    async def _scan_known(self) -> None:
        keys = [(kind, key) for kind in _KINDS for key in self._fold.keys(kind)]
        total = len(keys)
        for start in range(0, total, READ_KEYS_MAX):
            some = [each for each in map(self._request_for, keys[start : start + READ_KEYS_MAX]) if each is not None]
            if some:
                reading = await self._side.read([wanted for wanted, _ in some])
                for (wanted, record), stored in zip(some, reading.keys, strict=True):
                    if self._compare(wanted.kind, wanted.key, record, stored, reading.at):
                        self._suspect(wanted.kind, wanted.key, wanted.indexes)
            self.compared += len(some)
            self._report("redis", min(start + READ_KEYS_MAX, total), total)

    def _request_for(self, key: RedisKey) -> tuple[WantedKey, Record] | None:
        """The read request for a key of the log, and its record; None if it is not audited."""
        record = self._fold.record(*key)
        if record is None or not self._is_audited(key, record):
            return None
        return WantedKey(*key, tuple(entries_of(record))), record

    def _is_audited(self, key: RedisKey, record: Record) -> bool:
        if self._skus is None:
            return True
        if key[0] == "sku":
            return key[1] in self._skus
        return isinstance(record, OrderRecord) and any(line.sku in self._skus for line in record.lines)

    async def _scan_names(self) -> list[str]:
        """Suspect all keys unknown to the log; returns the names of the indexes of holds and queues."""
        indexes: dict[str, None] = {}
        scanned, total = 0, await self._side.size()
        async for names in self._side.names():
            for name in names:
                self._classify(name, indexes)
            scanned += len(names)
            self._report("names", min(scanned, total), total)
            await asyncio.sleep(0)
        return list(indexes)

    def _classify(self, name: bytes, indexes: dict[str, None]) -> None:
        try:
            word, colon, key = name.decode().partition(":")
        except UnicodeDecodeError:
            self._foreign.add(name.decode(errors="backslashreplace"))
            return
        if colon and word in ("held", "queue", "unpaid"):
            indexes[f"{word}:{key}"] = None
        elif name == b"approvals":
            indexes["approvals"] = None
        elif colon and word in ("moves", "listed", "expected", "incoming"):
            pass  # sums over a day of the journal, and indexes of a SKU's announcements: not compared
        elif colon and word in ("sku", "order", "movement"):
            if not self._fold.has(word, key):  # type: ignore[arg-type]
                self._suspect(word, key)  # type: ignore[arg-type]
        elif name == b"registry":
            if not self._fold.has("registry", ""):
                self._suspect("registry", "")
        elif colon or word not in _OWN_KEYS:
            self._foreign.add(name.decode())

    async def _scan_index(self, index: str) -> None:
        kind: Kind = "order" if index in ("deadlines", "waiting") else "sku"
        if index in ANNOUNCEMENT_INDEXES:
            kind = "movement"
        async for entries in self._side.members(index):
            for member, score in entries:
                if index == "skus":
                    wrong = not self._fold.has("sku", member)
                else:
                    wrong = score != _SCORES[index](self._fold.record(kind, member))
                if wrong:
                    self._suspect(kind, member)
            await asyncio.sleep(0)

    async def _scan_entries(self, indexes: Sequence[str]) -> None:
        scanned = 0
        async for index, entries in self._side.entries(indexes):
            for order_id, score in entries:
                if entries_of(self._fold.record("order", order_id)).get(index) != score:
                    self._suspect("order", order_id, (index,))
            scanned += 1
            self._report("holds", min(scanned, len(indexes)), len(indexes))
            await asyncio.sleep(0)

    async def _check_sums(self, indexes: Iterable[str]) -> None:
        """Compare each sum of unpaid units with the entries in its index, as of one moment."""
        groups = {name.removeprefix("unpaid:") for name in indexes if name.startswith("unpaid:")}
        for group in sorted(groups | await self._side.summed_groups()):
            entries, stored = await self._side.unpaid_of(group)
            if stored not in (None, entries):
                self.sums.append(Difference("redis", f"sum of {group}", entries, stored))

    def _suspect(self, kind: Kind, key: str, indexes: Iterable[str] = ()) -> None:
        self._suspects.setdefault((kind, key), set()).update(indexes)

    def _compare(
        self, kind: Kind, key: str, record: Record | None, stored: StoredKey, at_ms: int
    ) -> tuple[Difference, ...]:
        kept = self._fold.get(kind, key)
        return compare_stored(kind, kept.packed if kept else None, record, stored, at_ms, self._limits)

    # The exact reading

    async def examine(self, keys: dict[RedisKey, set[str]]) -> AsyncIterator[ExaminedKey]:
        """Read keys exactly, each as of a batch. The values are additional indexes that are searched for an order.
        Raises AuditError and redis-py's errors."""
        wanted = [
            WantedKey(*key, tuple(indexes | entries_of(self._fold.record(*key)).keys()))
            for key, indexes in keys.items()
        ]
        for start in range(0, len(wanted), READ_KEYS_MAX):
            some = wanted[start : start + READ_KEYS_MAX]
            reading = await self._read_exactly(some)
            for each, stored in zip(some, reading.keys, strict=True):
                record = self._fold.record(each.kind, each.key)
                differences = self._compare(each.kind, each.key, record, stored, reading.at)
                yield ExaminedKey(each.kind, each.key, stored, differences)
            self._report("suspects", min(start + READ_KEYS_MAX, len(wanted)), len(wanted))

    async def _read_exactly(self, wanted: Sequence[WantedKey]) -> RedisReading:
        """A reading, with the fold at exactly its batch."""
        for _ in range(_LOST_READINGS_MAX):
            reading = await self._side.read(wanted, deep=True)
            if await self._follower.advance(reading.batch, reading.token):
                return reading
        raise AuditError("Redis loses its newest batches again and again: it is being brought back")
