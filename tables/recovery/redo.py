"""The writes of a recovery: payloads of the journal, or rows of the derived topics, as keys of Redis.

In: payloads (msgpack of `tables.ledger.records.Decision`), rows (`tables.derived_rows`). Out: `Writes`, which
`redo.lua` and `load.lua` apply. States are whole, so only the newest one of a key is written, as the bytes that Lua
packed. The availability of stock is not checked: these batches were promised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from stocktide.streams.topics import DAY_MS
from stocktide.tables.derived_rows import StoredRow
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.packed import index_entries
from stocktide.tables.ledger.queue_places import hold_place, place_in_queue
from stocktide.tables.ledger.raw_decision import decode_raw_decision, unpack_movement, unpack_order
from stocktide.tables.ledger.records import AWAITING_APPROVAL, Moved, MovementRecord, OrderRecord, SkuRecord
from stocktide.tables.views import PARKED

FINAL_STATES = frozenset({"shipped", "cancelled", "expired", "rejected"})


class _Patch(Struct, array_like=True):
    """`tables.ledger.records.SkuPatch` with packed fields."""

    sku: str
    version: int
    at: int
    counters: Raw
    warehouses: Raw
    sides: Raw
    counted: Raw
    floors: Raw
    carried: Raw
    rest: Raw
    pool_times: Raw = Raw(b"\x90")
    promises: Raw = Raw(b"\xc0")


class _Patches(Struct, frozen=True, array_like=True):
    channels: Raw = Raw(b"\x90")
    rows: tuple[_Patch, ...] = ()


class _CountedLine(Struct):
    sku: str
    outcome: str


class _CountKeys(Struct):
    """What the index keys of a count in parts need."""

    outcome: str
    at: int
    part: int = 0
    parts: int = 0
    lines: tuple[_CountedLine, ...] = ()


_decode_patches = msgspec.msgpack.Decoder(_Patches).decode
_decode_moves = msgspec.msgpack.Decoder(tuple[Moved, ...]).decode
_count_keys = msgspec.msgpack.Decoder(_CountKeys).decode
_encode = msgspec.msgpack.Encoder().encode
_NIL = b"\xc0"
# Stands in the record of every count in parts, and in hardly any other.
_PARTS = b"parts"
# The same for announcements.
_ETA = b"\xa3eta"


class Writes:
    """Collects writes, the newest per key. `bytes` is their approximate size."""

    def __init__(self, limits: LedgerLimits) -> None:
        self._limits = limits
        self._values: dict[str, tuple[bytes, int | None] | None] = {}
        self._indexes: dict[str, dict[str, int | None]] = {}
        # By SKU, in order: each with the channels that it names.
        self._patches: dict[str, list[tuple[Raw, _Patch]]] = {}
        self._moves: list[Moved] = []
        self.bytes = 0
        self.at = 0

    def add(self, payload: bytes) -> None:
        """Add a batch of the journal, newer than all before. Raises msgspec.DecodeError."""
        decision = decode_raw_decision(payload)
        self.at = max(self.at, decision.at)
        for order in decision.orders:
            if order.changed:
                self._add_order(order.order_id, bytes(order.record), unpack_order(order.record))
        for movement in decision.movements:
            if movement.changed:
                until = decision.at + self._limits.movement_retention_ms
                self._add_movement(f"{movement.warehouse}\n{movement.id}", bytes(movement.record), until)
        for sku in decision.skus:
            self._add_sku(sku.sku, bytes(sku.record))
        patches = _decode_patches(decision.patches)
        for patch in patches.rows:
            self._add_patch(patch, patches.channels)
        registry = bytes(decision.registry)
        if registry != _NIL:
            self._put("registry", registry, None)
        self._moves.extend(_decode_moves(decision.moves))

    def add_moves(self, payload: bytes) -> None:
        """Add the movements of a batch whose states are in the rows. Raises msgspec.DecodeError."""
        decision = decode_raw_decision(payload)
        self.at = max(self.at, decision.at)
        self._moves.extend(_decode_moves(decision.moves))

    def forget_moves_before(self, at_ms: int) -> None:
        """Mark movements before a time as unknown: the ledger refuses a count as of then."""
        self._put("moves-from", str(at_ms).encode(), None)

    @property
    def moves(self) -> int:
        """The number of movements."""
        return len(self._moves)

    def add_row(self, row: StoredRow, now_ms: int) -> None:
        """Add a row of a derived topic, unless its retention is over."""
        record = row.record
        if isinstance(record, SkuRecord):
            self._add_sku(row.key, _encode(record))
        elif isinstance(record, OrderRecord):
            if self._kept_until(record.state, record.ended_at) > now_ms:
                self._add_order(row.key, _encode(record), record)
        elif isinstance(record, MovementRecord):
            until = record.applied_at + self._limits.movement_retention_ms
            if until > now_ms or record.is_open:
                self._add_movement(row.key, _encode(record), until)

    def packed(self) -> tuple[bytes, ...]:
        """The input of `includes/rewrite.lua`: a packed list of names, and their values."""
        kept = {name: entry[0] for name, entry in self._values.items() if entry and entry[1] is None}
        expiring = {name: entry for name, entry in self._values.items() if entry and entry[1] is not None}
        gone = [name for name, entry in self._values.items() if entry is None]
        indexed: list[Any] = []
        dropped: list[Any] = []
        for key, members in self._indexes.items():
            scored = [part for member, score in members.items() if score is not None for part in (score, member)]
            unscored = [member for member, score in members.items() if score is None]
            if scored:
                indexed.append((key, scored))
            if unscored:
                dropped.append((key, unscored))
        expiries = [(name, entry[1]) for name, entry in expiring.items()]
        patches = [(sku, some) for sku, some in self._patches.items()]
        names = _encode((list(kept), expiries, gone, indexed, dropped, patches, self._moves, self.at))
        return names, *kept.values(), *(entry[0] for entry in expiring.values())

    def _add_sku(self, sku: str, packed: bytes) -> None:
        self._put(f"sku:{sku}", packed, None)
        for index, score in index_entries(packed).items():
            self._index(index, sku, score)
        self._index("skus", sku, 0)
        self._index("patched", sku, None)
        self._patches.pop(sku, None)

    def _add_patch(self, patch: _Patch, channels: Raw) -> None:
        self._index("skus", patch.sku, 0)
        self._index("patched", patch.sku, 0)
        self._patches.setdefault(patch.sku, []).append((channels, patch))
        self.bytes += len(bytes(patch.counters)) + len(bytes(patch.sides))

    def _add_movement(self, key: str, record: bytes, until_ms: int) -> None:
        if _ETA in record and (announcement := unpack_movement(record)).eta is not None:
            self._add_announcement(key, record, announcement)
            return
        self._put(f"movement:{key}", record, until_ms)
        if _PARTS not in record:
            return
        count = _count_keys(record)
        if count.part:
            waits = count.outcome == Outcome.PARTS_MISSING or any(
                line.outcome == Outcome.PARTS_MISSING for line in count.lines
            )
            index = f"listed:{key.rpartition(' part ')[0]}"
            for line in count.lines:
                self._index(index, line.sku, count.part if waits else None)
        elif count.parts:
            dues = {Outcome.COUNTING: 0, Outcome.PARTS_MISSING: count.at + DAY_MS}
            self._index("counts", key, dues.get(Outcome(count.outcome)))

    def _add_announcement(self, key: str, packed: bytes, record: MovementRecord) -> None:
        ends = None if record.is_open else record.applied_at + self._limits.movement_retention_ms
        self._put(f"movement:{key}", packed, ends)
        for index, score in zip(("expected", "etas", "overdue"), record.announcement_entries, strict=True):
            self._index(index, key, score)
        for line in record.lines:
            is_listed = line.received or line.outcome == Outcome.EXPECTED
            self._index(f"expected:{line.sku}", key, 0 if is_listed else None)
            self._index(f"incoming:{line.sku}", key, record.eta if line.incoming else None)

    def _add_order(self, order_id: str, packed: bytes, order: OrderRecord) -> None:
        name = f"order:{order_id}"
        deadlines = [at for at in (order.expires_at, order.wait_at) if at is not None]
        self._index("deadlines", order_id, min(deadlines, default=None))
        self._index("waiting", order_id, sum(event.get("bytes", 0) for event in order.parked) or None)
        if order.state == PARKED and not order.parked:
            self._values[name] = None
            return
        for line in order.lines:
            self._index(f"held:{line.sku}", order_id, hold_place(order) if line.reserved else None)
            place = place_in_queue(order, line)
            if place is not None or order.queued:
                self._index(f"queue:{line.sku}\n{order.channel}", order_id, place)
        if order.approval is not None:
            self._index("approvals", order_id, 0 if order.state == AWAITING_APPROVAL else None)
        for index, units in order.unpaid_entries.items():
            self._index(index, order_id, units or None)
        final = order.state in FINAL_STATES
        self._put(name, packed, self._kept_until(order.state, order.ended_at) if final else None)

    def _kept_until(self, state: str, ended_at: int | None) -> int:
        """The time at which a final order's record expires, ms; far in the future for any other."""
        if state not in FINAL_STATES:
            return 1 << 62
        limits = self._limits
        kept = limits.refused_retention_ms if state == "rejected" else limits.order_retention_ms
        return (ended_at or 0) + kept

    def _put(self, name: str, value: bytes, until_ms: int | None) -> None:
        self._values[name] = (value, until_ms)
        self.bytes += len(value)

    def _index(self, key: str, member: str, score: int | None) -> None:
        self._indexes.setdefault(key, {})[member] = score


def make_writes(rows: Iterable[StoredRow], limits: LedgerLimits, now_ms: int) -> Writes:
    """The writes of a batch of rows; the last row of a key is its newest."""
    writes = Writes(limits)
    for row in rows:
        writes.add_row(row, now_ms)
    return writes
