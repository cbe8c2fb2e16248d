"""The fold of the log: the newest whole record of each key in the journal, as of one batch exactly.

In: payloads of valid batches, in order; rows of the derived topics if the journal is trimmed. Out: `JournalFold`, for
comparison with Redis and the tables; and inconsistencies of the log: after a batch, a SKU's counters must be those
before plus the effects of the batch, and its version must have grown by their number.

Memory: the bytes of the newest records plus about 150 bytes per key. Time: proportional to the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from stocktide.streams.topics import join_key
from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, Kind, Record, canonical, decode, stored_kind
from stocktide.tables.derived_rows import StoredRow
from stocktide.tables.history.sku_history import apply_deltas
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.packed import order_end, unpack_counters, unpack_order
from stocktide.tables.ledger.raw_decision import (
    RawDecision,
    decode_raw_decision,
    unpack_effects,
    unpack_movement,
    unpack_patches,
)
from stocktide.tables.ledger.records import SkuRecord
from stocktide.tables.views import PARKED

# The cause of an effect after which a row is not checked: the state before was wrong.
REPAIR = "repair"
_BATCH_BYTES = 8
_NIL = b"\xc0"


class _Applied(Struct):
    applied_at: int
    eta: int | None = None


_unpack_applied = msgspec.msgpack.Decoder(_Applied).decode
_pack = msgspec.msgpack.Encoder().encode


class Discrepancy(Struct):
    """The difference between a SKU's rows and the logged effects, summed since `batch`.

    `off`: by counter, the newest row minus the effects. `version_off`: likewise for the version. `restated`: a row
    without an effect differed in other fields than its counters.
    """

    batch: int
    off: dict[str, int] = field(default_factory=dict)
    version_off: int = 0
    restated: bool = False

    def __bool__(self) -> bool:
        return bool(self.off or self.version_off or self.restated)


class FoldedRecord(Struct, frozen=True):
    """A key's newest record as packed by Lua, and the batch that wrote it."""

    batch: int
    packed: bytes


class JournalFold:
    """The newest records of the log. `start`: the batch before the first folded one, 0 unless rows are the base.

    Keys that expire within a minute of `as_of_ms` are left out: Redis may hold them or not.
    """

    def __init__(self, limits: LedgerLimits, as_of_ms: int, start: int = 0) -> None:
        self._limits = limits
        self._as_of_ms = as_of_ms
        self._start = start
        self.batch = start
        self.at = 0
        # By kind and key: 8 bytes of batch and the packed record in one object, because there are millions.
        self._kept: dict[Kind, dict[str, bytes]] = {"sku": {}, "order": {}, "movement": {}, "registry": {}}
        self.policies: dict[str, tuple[int, dict[str, Any] | None]] = {}
        # SKUs whose newest change is a patch; their row follows in a later batch.
        self.patched: set[str] = set()
        self.discrepancies: dict[str, Discrepancy] = {}
        # Orders that a restating batch changed: the record before, and that batch.
        self.overwritten: dict[str, tuple[FoldedRecord, int]] = {}

    # Reading

    @property
    def is_whole(self) -> bool:
        """Whether the fold began at the journal's beginning."""
        return not self._start

    def get(self, kind: Kind, key: str) -> FoldedRecord | None:
        """The newest record of a key. Orders and parked events are one kind here."""
        found = self._kept[stored_kind(kind)].get(key)
        return None if found is None else FoldedRecord(int.from_bytes(found[:_BATCH_BYTES]), found[_BATCH_BYTES:])

    def record(self, kind: Kind, key: str) -> Record | None:
        """The newest record, decoded and canonical."""
        found = self._kept[stored_kind(kind)].get(key)
        return None if found is None else canonical(decode(kind, found[_BATCH_BYTES:]))

    def has(self, kind: Kind, key: str) -> bool:
        """Whether the log knows the key."""
        return key in self._kept[stored_kind(kind)]

    def keys(self, kind: Kind) -> list[str]:
        """The current keys of a kind."""
        return list(self._kept[stored_kind(kind)])

    def records(self, kind: Kind) -> Iterator[tuple[str, Record]]:
        """The keys of a kind with their records."""
        for key, found in self._kept[stored_kind(kind)].items():
            yield key, canonical(decode(kind, found[_BATCH_BYTES:]))

    # Folding

    def add_rows(self, rows: Iterable[StoredRow]) -> None:
        """Add rows as the base, before any batch; the last row of a key counts. Rows of batches after `start` are
        ignored, because the journal holds them."""
        for row in rows:
            if row.kind == "policy":
                self._add_policy_row(row)
            elif row.batch > self._start:
                continue
            elif row.record is None:
                self._kept[row.kind].pop(row.key, None)
            else:
                self._store(row.kind, row.key, row.batch, _pack(row.record))

    def add(self, payload: bytes) -> int:
        """Fold the next batch; returns its number. Raises msgspec.MsgspecError if the payload is invalid."""
        decision = decode_raw_decision(payload)
        batch = self.batch = decision.batch
        self.at = max(self.at, decision.at)
        restating = any(result.outcome == Outcome.RESTATED for result in decision.results)
        for order in decision.orders:
            if order.changed:
                packed = bytes(order.record)
                if restating:
                    self._check_restated(batch, order.order_id, packed)
                elif self.overwritten:
                    self.overwritten.pop(order.order_id, None)
                self._store("order", order.order_id, batch, packed)
        for movement in decision.movements:
            if movement.changed:
                self._store("movement", f"{movement.warehouse}\n{movement.id}", batch, bytes(movement.record))
        self._add_skus(decision)
        for policy in decision.policies:
            level = None if policy.policy is None else dict(policy.policy)
            self.policies[_policy_key(policy.channel, policy.sku)] = (batch, level)
        registry = bytes(decision.registry)
        if registry != _NIL:
            self._store("registry", "", batch, registry)
        for repair in decision.repairs:
            if repair.after is None and repair.subject == "sku":
                self._kept["sku"].pop(repair.key, None)
            elif repair.after is None and repair.subject == "movement":
                self._kept["movement"].pop(repair.key, None)
        return batch

    def _store(self, kind: Kind, key: str, batch: int, packed: bytes) -> None:
        kept = self._kept[kind]
        if self._is_over(kind, packed):
            kept.pop(key, None)
        else:
            kept[key] = batch.to_bytes(_BATCH_BYTES) + packed

    def _is_over(self, kind: Kind, packed: bytes) -> bool:
        if kind == "order":
            state, ended_at = order_end(packed)
            if state == PARKED:
                return not unpack_order(packed).parked
            if ended_at is None:
                return False
            limits = self._limits
            kept_ms = limits.refused_retention_ms if state == "rejected" else limits.order_retention_ms
            return ended_at + kept_ms <= self._as_of_ms + EXPIRY_MARGIN_MS
        if kind == "movement":
            applied = _unpack_applied(packed)
            if applied.eta is not None and unpack_movement(packed).is_open:
                return False
            until = applied.applied_at + self._limits.movement_retention_ms
            return until <= self._as_of_ms + EXPIRY_MARGIN_MS
        return False

    def _add_policy_row(self, row: StoredRow) -> None:
        level = row.record
        if level is None or getattr(level, "policy", None) is None:
            self.policies.pop(row.key, None)
        elif row.batch <= self._start:
            self.policies[row.key] = (row.batch, level.policy)  # type: ignore[union-attr]

    # Checking

    def _add_skus(self, decision: RawDecision) -> None:
        patches = unpack_patches(decision.patches)
        if not decision.skus and not patches.rows:
            return
        effects = unpack_effects(decision)
        deltas: dict[str, dict[str, int]] = {}
        counts: dict[str, int] = {}
        for effect in effects:
            sku = effect.sku
            counts[sku] = counts.get(sku, 0) + 1
            sums = deltas.setdefault(sku, {})
            if effect.deltas:
                for name, units in effect.deltas.items():
                    sums[name] = sums.get(name, 0) + units
            if effect.cause[0] == REPAIR:
                self.discrepancies.pop(sku, None)
                counts[sku] = -len(effects)  # not checked
        rows = {row.sku: bytes(row.record) for row in decision.skus}
        for patch in patches.rows:
            before = self._kept["sku"].get(patch.sku)
            record = None if before is None else decode("sku", before[_BATCH_BYTES:])
            assert record is None or isinstance(record, SkuRecord)
            rows[patch.sku] = _pack(patch.apply_to(record, patches.channels))
        for sku, packed in rows.items():
            if counts.get(sku, 0) >= 0:
                self._check(decision.batch, sku, packed, deltas.get(sku, {}), counts.get(sku, 0))
            self._store("sku", sku, decision.batch, packed)
        self.patched.difference_update(row.sku for row in decision.skus)
        self.patched.update(patch.sku for patch in patches.rows)

    def _check(self, batch: int, sku: str, packed: bytes, deltas: dict[str, int], effects: int) -> None:
        before = self._kept["sku"].get(sku)
        if self._start and (before is None or int.from_bytes(before[:_BATCH_BYTES]) <= self._start):
            return  # the base row may have been set back by a late writer
        version_was, was = (0, {}) if before is None else unpack_counters(memoryview(before)[_BATCH_BYTES:])
        version, now = unpack_counters(packed)
        expected = dict(was)
        for name, units in deltas.items():
            expected[name] = expected.get(name, 0) + units
        off = counter_deltas(now, expected)
        version_off = version - version_was - effects
        restated = (
            not effects
            and before is not None
            and packed != before[_BATCH_BYTES:]
            and not _equal_except_counters(before, packed)
        )
        if off or version_off or restated:
            self._add_discrepancy(batch, sku, off, version_off, restated)

    def _check_restated(self, batch: int, order_id: str, packed: bytes) -> None:
        """Note an order that a restating batch changed; it must only repeat the record."""
        before = self.get("order", order_id)
        if before is None or before.packed == packed or 0 < self._start >= before.batch:
            return
        now = decode("order", packed)
        right, since = self.overwritten.get(order_id, (before, batch))
        if decode("order", right.packed) == now:
            self.overwritten.pop(order_id, None)
        else:
            self.overwritten[order_id] = (right, since)

    def _add_discrepancy(self, batch: int, sku: str, off: dict[str, int], version_off: int, restated: bool) -> None:
        known = self.discrepancies.setdefault(sku, Discrepancy(batch))
        known.off = apply_deltas(known.off, off)
        known.version_off += version_off
        known.restated = known.restated or restated
        if not known:
            del self.discrepancies[sku]


def _policy_key(channel: str, sku: str) -> str:
    return join_key(channel, sku) if sku else channel


def counter_deltas(now: dict[str, int], expected: dict[str, int]) -> dict[str, int]:
    """What `now` has more than `expected`, by counter, without zeros."""
    if now == expected:
        return {}
    names = now.keys() | expected.keys()
    return {name: off for name in names if (off := now.get(name, 0) - expected.get(name, 0))}


def _equal_except_counters(before: bytes, packed: bytes) -> bool:
    """Whether two records of a SKU are equal except for counters and version."""
    was, now = decode("sku", before[_BATCH_BYTES:]), decode("sku", packed)
    assert isinstance(was, SkuRecord) and isinstance(now, SkuRecord)
    bare = [canonical(msgspec.structs.replace(record, version=0, counters={})) for record in (was, now)]
    return bare[0] == bare[1]
