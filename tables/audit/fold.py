"""The log, folded: of every key the newest whole record that the journal holds, as of one batch exactly.

In: payloads of valid batches, in order; rows of the derived topics where the journal no longer begins at its beginning.
Out: `JournalFold`, which an audit compares with Redis and the tables, and where the log does not add up: a SKU's
counters after a batch are those before it plus the effects of the batch, and its version grew by their number.

Memory is about the bytes of the newest records and 150 bytes for each key; time grows with the length of the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from stocktide.streams.topics import join_key
from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, Kind, Record, canonical, decode
from stocktide.tables.audit.raw_batch import (
    NIL,
    PackedCounters,
    PackedDecision,
    pack,
    unpack_applied,
    unpack_counted,
    unpack_decision,
    unpack_ends,
    unpack_results,
)
from stocktide.tables.derived_rows import StoredRow
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.records import SkuRecord, check_format

# The cause of an effect after which a row is taken as it is: what was before it was found to be wrong.
REPAIR = "repair"
_BATCH_BYTES = 8
# The outcome of a batch that wrote rows anew; such a batch does nothing else.
_RESTATED = "restated"


class Discrepancy(Struct):
    """Where a SKU's rows left the effects that were logged with them, and how far, summed up since `batch`.

    `off`: by counter, how much more the newest row says than effects do. `version_off`: likewise for the version.
    `restated`: a row without an effect differed elsewhere than in its counters.
    """

    batch: int
    off: dict[str, int] = field(default_factory=dict)
    version_off: int = 0
    restated: bool = False

    def __bool__(self) -> bool:
        return bool(self.off or self.version_off or self.restated)


class FoldedRecord(Struct, frozen=True):
    """A key's newest record, packed as Lua did, and the batch that wrote it."""

    batch: int
    packed: bytes


class JournalFold:
    """What the log says. `start` is the batch before the first one that is folded: 0 unless rows are its base.

    Keys that end by themselves within a minute of `as_of_ms` are not kept: Redis may or may not hold them.
    """

    def __init__(self, limits: LedgerLimits, as_of_ms: int, start: int = 0) -> None:
        self._limits = limits
        self._as_of_ms = as_of_ms
        self._start = start
        self.batch = start
        self.at = 0
        # By kind and key: 8 bytes of batch and the packed record, as one object: there are millions.
        self._kept: dict[Kind, dict[str, bytes]] = {"sku": {}, "order": {}, "movement": {}, "registry": {}}
        self.policies: dict[str, tuple[int, dict[str, Any] | None]] = {}
        # SKUs whose newest change is a patch: their row follows with a later batch.
        self.patched: set[str] = set()
        self.discrepancies: dict[str, Discrepancy] = {}
        # Orders that were written into the journal anew otherwise than they were: as they were, and since which batch.
        self.overwritten: dict[str, tuple[FoldedRecord, int]] = {}

    # What it knows

    @property
    def is_whole(self) -> bool:
        """Whether it began at the journal's beginning."""
        return not self._start

    def get(self, kind: Kind, key: str) -> FoldedRecord | None:
        """The newest record of a key; orders and parked ones are one kind here."""
        found = self._kept[_place(kind)].get(key)
        return None if found is None else FoldedRecord(int.from_bytes(found[:_BATCH_BYTES]), found[_BATCH_BYTES:])

    def record(self, kind: Kind, key: str) -> Record | None:
        """The newest record, decoded and canonical."""
        found = self._kept[_place(kind)].get(key)
        return None if found is None else canonical(decode(kind, found[_BATCH_BYTES:]))

    def has(self, kind: Kind, key: str) -> bool:
        """Whether the log knows the key."""
        return key in self._kept[_place(kind)]

    def keys(self, kind: Kind) -> list[str]:
        """Every key of a kind, as of now."""
        return list(self._kept[_place(kind)])

    def records(self, kind: Kind) -> Iterator[tuple[str, Record]]:
        """Every key with its record."""
        for key, found in self._kept[_place(kind)].items():
            yield key, canonical(decode(kind, found[_BATCH_BYTES:]))

    def size(self, kind: Kind) -> int:
        """How many keys of a kind there are."""
        return len(self._kept[_place(kind)])

    # What it takes in

    def add_rows(self, rows: Iterable[StoredRow]) -> None:
        """Take rows as the base, before any batch: of a key the last one counts. A row of a later batch than `start`
        is left to the journal."""
        for row in rows:
            if row.kind == "policy":
                self._base_policy(row)
            elif row.batch > self._start:
                continue
            elif row.record is None:
                self._kept[row.kind].pop(row.key, None)
            else:
                self._put(row.kind, row.key, row.batch, pack(row.record))

    def add(self, payload: bytes) -> int:
        """Fold the next batch; its number. Raises msgspec.MsgspecError where the payload is none."""
        decision = unpack_decision(payload)
        check_format(decision.format)
        batch = self.batch = decision.batch
        self.at = max(self.at, decision.at)
        restating = _is_restating(bytes(decision.results))
        for order in decision.orders:
            if order.changed:
                packed = bytes(order.record)
                if restating:
                    self._check_restated(batch, order.order_id, packed)
                elif self.overwritten:
                    self.overwritten.pop(order.order_id, None)
                self._put("order", order.order_id, batch, packed)
        for movement in decision.movements:
            if movement.changed:
                self._put("movement", f"{movement.warehouse}\n{movement.id}", batch, bytes(movement.record))
        self._add_skus(decision)
        for policy in decision.policies:
            level = None if policy.policy is None else dict(policy.policy)
            self.policies[_policy_key(policy.channel, policy.sku)] = (batch, level)
        registry = bytes(decision.registry)
        if registry != NIL:
            self._put("registry", "", batch, registry)
        for repair in decision.repairs:
            if bytes(repair.after) == NIL and repair.subject == "sku":
                self._kept["sku"].pop(repair.key, None)
            elif bytes(repair.after) == NIL and repair.subject == "movement":
                self._kept["movement"].pop(repair.key, None)
        return batch

    def _put(self, kind: Kind, key: str, batch: int, packed: bytes) -> None:
        kept = self._kept[kind]
        if self._is_over(kind, packed):
            kept.pop(key, None)
        else:
            kept[key] = batch.to_bytes(_BATCH_BYTES) + packed

    def _is_over(self, kind: Kind, packed: bytes) -> bool:
        if kind == "order":
            ends = unpack_ends(packed)
            if ends.state == "parked":
                return not ends.parked
            if ends.ended_at is None:
                return False
            limits = self._limits
            kept_ms = limits.refused_retention_ms if ends.state == "rejected" else limits.order_retention_ms
            return ends.ended_at + kept_ms <= self._as_of_ms + EXPIRY_MARGIN_MS
        if kind == "movement":
            until = unpack_applied(packed).applied_at + self._limits.movement_retention_ms
            return until <= self._as_of_ms + EXPIRY_MARGIN_MS
        return False

    def _base_policy(self, row: StoredRow) -> None:
        level = row.record
        if level is None or getattr(level, "policy", None) is None:
            self.policies.pop(row.key, None)
        elif row.batch <= self._start:
            self.policies[row.key] = (row.batch, level.policy)  # type: ignore[union-attr]

    # Whether it adds up

    def _add_skus(self, decision: PackedDecision) -> None:
        if not decision.skus and not decision.patches.rows:
            return
        deltas: dict[str, dict[str, int]] = {}
        counts: dict[str, int] = {}
        for effect in decision.effects:
            sku = effect.sku
            counts[sku] = counts.get(sku, 0) + 1
            sums = deltas.setdefault(sku, {})
            if effect.deltas:
                for name, units in effect.deltas.items():
                    sums[name] = sums.get(name, 0) + units
            if effect.cause[0] == REPAIR:
                self.discrepancies.pop(sku, None)
                counts[sku] = -len(decision.effects)  # it is taken as it is
        for row in decision.skus:
            packed = bytes(row.record)
            if counts.get(row.sku, 0) >= 0:
                self._check(decision.batch, row.sku, packed, deltas.get(row.sku, {}), counts.get(row.sku, 0))
            self._put("sku", row.sku, decision.batch, packed)
            self.patched.discard(row.sku)
        for patch in decision.patches.rows:
            before = self._kept["sku"].get(patch.sku)
            record = None if before is None else decode("sku", before[_BATCH_BYTES:])
            assert record is None or isinstance(record, SkuRecord)
            packed = pack(patch.apply_to(record, decision.patches.channels))
            if counts.get(patch.sku, 0) >= 0:
                self._check(decision.batch, patch.sku, packed, deltas.get(patch.sku, {}), counts.get(patch.sku, 0))
            self._put("sku", patch.sku, decision.batch, packed)
            self.patched.add(patch.sku)

    def _check(self, batch: int, sku: str, packed: bytes, deltas: dict[str, int], effects: int) -> None:
        before = self._kept["sku"].get(sku)
        if self._start and (before is None or int.from_bytes(before[:_BATCH_BYTES]) <= self._start):
            return  # what lies before the journal may have been set back by a late writer
        was = PackedCounters(0) if before is None else unpack_counted(memoryview(before)[_BATCH_BYTES:])
        now = unpack_counted(packed)
        expected = was.counters
        for name, units in deltas.items():
            expected[name] = expected.get(name, 0) + units
        off = _difference(now.counters, expected)
        version_off = now.version - was.version - effects
        restated = (
            not effects
            and before is not None
            and packed != before[_BATCH_BYTES:]
            and not _same_but_counted(before, packed)
        )
        if off or version_off or restated:
            self._note(batch, sku, off, version_off, restated)

    def _check_restated(self, batch: int, order_id: str, packed: bytes) -> None:
        """A row that was only written anew is what it was; else somebody else changed the order."""
        before = self.get("order", order_id)
        if before is None or before.packed == packed or 0 < self._start >= before.batch:
            return
        now = decode("order", packed)
        right, since = self.overwritten.get(order_id, (before, batch))
        if decode("order", right.packed) == now:
            self.overwritten.pop(order_id, None)
        else:
            self.overwritten[order_id] = (right, since)

    def _note(self, batch: int, sku: str, off: dict[str, int], version_off: int, restated: bool) -> None:
        known = self.discrepancies.setdefault(sku, Discrepancy(batch))
        for name, units in off.items():
            known.off[name] = known.off.get(name, 0) + units
            if not known.off[name]:
                del known.off[name]
        known.version_off += version_off
        known.restated = known.restated or restated
        if not known:
            del self.discrepancies[sku]


def _is_restating(results: bytes) -> bool:
    # The word is looked for first: it is in few batches, and may be in an id.
    return _RESTATED.encode() in results and any(each.outcome == _RESTATED for each in unpack_results(results))


def _place(kind: Kind) -> Kind:
    return "order" if kind == "parked" else kind


def _policy_key(channel: str, sku: str) -> str:
    return join_key(channel, sku) if sku else channel


def _difference(now: dict[str, int], expected: dict[str, int]) -> dict[str, int]:
    if now == expected:
        return {}
    names = now.keys() | expected.keys()
    return {name: off for name in names if (off := now.get(name, 0) - expected.get(name, 0))}


def _same_but_counted(before: bytes, packed: bytes) -> bool:
    """Whether two records of a SKU are the same but for counters and version, which are looked at by themselves."""
    was, now = decode("sku", before[_BATCH_BYTES:]), decode("sku", packed)
    assert isinstance(was, SkuRecord) and isinstance(now, SkuRecord)
    bare = [canonical(msgspec.structs.replace(record, version=0, counters={})) for record in (was, now)]
    return bare[0] == bare[1]
