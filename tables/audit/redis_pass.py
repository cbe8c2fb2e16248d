"""Redis against the log, exact beside live traffic.

In: a fold of the log, a follower that moves it, a Redis that changes all the time. Out: the keys that differ and stay
so. A first look compares with the fold as it stands; what differs there may only have changed since. So each suspect is
read once more, atomically with the batch of which it is true, and the log is folded exactly up to that batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from msgspec import Struct

from stocktide.tables.audit.compare import (
    Difference,
    Drift,
    compare_stored,
    deadline_of,
    dwell_of,
    holds_of,
    waiting_of,
)
from stocktide.tables.audit.digest import Kind, Record
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import AuditError, JournalFollower
from stocktide.tables.audit.redis_keys import READ_KEYS_MAX, RedisReading, RedisSide, StoredKey, WantedKey
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.records import OrderRecord

# What an entry of an index has to say, by the index.
_SCORES: dict[str, Callable[[Record | None], int | None]] = {
    "deadlines": deadline_of,
    "waiting": waiting_of,
    "dwells": dwell_of,
}
# What the shard keeps beside records and indexes.
_OWN_KEYS = frozenset(
    {"head", "settled", "blessed", "outbox", "restate", "waiting_bytes", "patched", "moves-from", "counts"}
    | {"skus", *_SCORES}
)
# A batch that was read and then lost: Redis came back without it. Once is an accident, many are an outage.
_LOST_READINGS_MAX = 5
_KINDS: tuple[Kind, ...] = ("sku", "order", "movement", "registry")

ReportProgress = Callable[[str, int, int], None]
Key = tuple[Kind, str]


class ExaminedKey(Struct):
    """A key that was read exactly: what Redis holds, what the log says of the same batch, where they differ."""

    kind: Kind
    key: str
    stored: StoredKey
    batch: int
    differences: tuple[Difference, ...]


class RedisPass:
    """One pass over one Redis. `skus`: only those, and the orders that name them."""

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
        # Suspects with the SKUs in whose index of holds they were seen.
        self._suspects: dict[Key, set[str]] = {}
        self._foreign: set[str] = set()
        self.compared = 0
        self.in_flight = 0

    async def run(self) -> dict[Key, ExaminedKey]:
        """The keys that differ. Raises AuditError and redis-py's errors."""
        await self._look_at_known()
        if self._skus is None:
            held = await self._look_for_unknown()
            for index in (*_SCORES, "skus"):
                await self._look_at_index(index)
        else:
            held = sorted(self._skus)
        await self._look_at_holds(held)
        suspects, self._suspects = self._suspects, {}
        drifting = {}
        async for found in self.examine(suspects):
            if found.differences:
                drifting[found.kind, found.key] = found
        self.in_flight = len(suspects) - len(drifting)
        return drifting

    @property
    def foreign(self) -> tuple[str, ...]:
        """Names of keys, after the prefix, that are none of Stocktide's."""
        return tuple(sorted(self._foreign))

    # The first look

    async def _look_at_known(self) -> None:
        keys = [(kind, key) for kind in _KINDS for key in self._fold.keys(kind)]
        total = len(keys)
        for start in range(0, total, READ_KEYS_MAX):
            some = [each for each in map(self._known, keys[start : start + READ_KEYS_MAX]) if each is not None]
            if some:
                reading = await self._side.read([wanted for wanted, _ in some])
                for (wanted, record), stored in zip(some, reading.keys, strict=True):
                    if self._compare(wanted.kind, wanted.key, record, stored, reading.at):
                        self._suspect(wanted.kind, wanted.key, wanted.skus)
            self.compared += len(some)
            self._report("redis", min(start + READ_KEYS_MAX, total), total)

    def _known(self, key: Key) -> tuple[WantedKey, Record] | None:
        """A key that the log knows, as it is to be read; None where it is not asked for."""
        record = self._fold.record(*key)
        if record is None or not self._is_asked(key, record):
            return None
        return WantedKey(*key, tuple(holds_of(record))), record

    def _is_asked(self, key: Key, record: Record) -> bool:
        if self._skus is None:
            return True
        if key[0] == "sku":
            return key[1] in self._skus
        return isinstance(record, OrderRecord) and any(line.sku in self._skus for line in record.lines)

    async def _look_for_unknown(self) -> list[str]:
        """Suspect every key that the log does not know; the SKUs that have an index of holds."""
        held: dict[str, None] = {}
        looked_at, total = 0, await self._side.size()
        async for names in self._side.names():
            for name in names:
                self._sort(name, held)
            looked_at += len(names)
            self._report("names", min(looked_at, total), total)
            await asyncio.sleep(0)
        return list(held)

    def _sort(self, name: bytes, held: dict[str, None]) -> None:
        try:
            word, colon, key = name.decode().partition(":")
        except UnicodeDecodeError:
            self._foreign.add(name.decode(errors="backslashreplace"))
            return
        if colon and word == "held":
            held[key] = None
        elif colon and word in ("moves", "listed"):
            pass  # sums of a day's journal, in the place of which no row can be read: they are not compared
        elif colon and word in ("sku", "order", "movement"):
            if not self._fold.has(word, key):  # type: ignore[arg-type]
                self._suspect(word, key)  # type: ignore[arg-type]
        elif name == b"registry":
            if not self._fold.has("registry", ""):
                self._suspect("registry", "")
        elif colon or word not in _OWN_KEYS:
            self._foreign.add(name.decode())

    async def _look_at_index(self, index: str) -> None:
        kind: Kind = "order" if index in ("deadlines", "waiting") else "sku"
        async for entries in self._side.members(index):
            for member, score in entries:
                if index == "skus":
                    wrong = not self._fold.has("sku", member)
                else:
                    wrong = score != _SCORES[index](self._fold.record(kind, member))
                if wrong:
                    self._suspect(kind, member)
            await asyncio.sleep(0)

    async def _look_at_holds(self, skus: Sequence[str]) -> None:
        looked_at = 0
        async for sku, entries in self._side.holds(skus):
            for order_id, score in entries:
                if holds_of(self._fold.record("order", order_id)).get(sku) != score:
                    self._suspect("order", order_id, (sku,))
            looked_at += 1
            self._report("holds", min(looked_at, len(skus)), len(skus))
            await asyncio.sleep(0)

    def _suspect(self, kind: Kind, key: str, skus: Iterable[str] = ()) -> None:
        self._suspects.setdefault((kind, key), set()).update(skus)

    def _compare(
        self, kind: Kind, key: str, record: Record | None, stored: StoredKey, at_ms: int
    ) -> tuple[Difference, ...]:
        kept = self._fold.get(kind, key)
        return compare_stored(kind, kept.packed if kept else None, record, stored, at_ms, self._limits)

    # The second look

    async def examine(self, keys: dict[Key, set[str]]) -> AsyncIterator[ExaminedKey]:
        """Read keys once more, each exactly as of a batch. The values are SKUs in whose index of holds an order is
        looked for, beside those that it names. Raises AuditError and redis-py's errors."""
        wanted = [WantedKey(*key, tuple(skus | holds_of(self._fold.record(*key)).keys())) for key, skus in keys.items()]
        for start in range(0, len(wanted), READ_KEYS_MAX):
            some = wanted[start : start + READ_KEYS_MAX]
            reading = await self._exact(some)
            for each, stored in zip(some, reading.keys, strict=True):
                record = self._fold.record(each.kind, each.key)
                differences = self._compare(each.kind, each.key, record, stored, reading.at)
                yield ExaminedKey(each.kind, each.key, stored, reading.batch, differences)
            self._report("suspects", min(start + READ_KEYS_MAX, len(wanted)), len(wanted))

    async def _exact(self, wanted: Sequence[WantedKey]) -> RedisReading:
        """A reading, and the fold exactly at its batch."""
        for _ in range(_LOST_READINGS_MAX):
            reading = await self._side.read(wanted, deep=True)
            if await self._follower.advance(reading.batch, reading.token):
                return reading
        raise AuditError("Redis loses its newest batches again and again: it is being brought back")

    def drift(self, found: ExaminedKey) -> Drift:
        """What is told of a key that differs."""
        kept = self._fold.get(found.kind, found.key)
        subject = "order" if found.kind == "parked" else found.kind
        return Drift(subject, found.key, found.differences, kept.batch if kept else None)
