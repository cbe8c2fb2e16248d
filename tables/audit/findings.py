"""The findings of an audit: drifts, counts, and the digest of each side.

In: the results of the passes, and the fold of the log. Out: `Findings` as of one batch. Pure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from stocktide.tables.audit.compare import UNPAID_SUMS, Difference, Drift, Subject, fields_differing
from stocktide.tables.audit.digest import (
    EXPIRY_MARGIN_MS,
    Digest,
    Kind,
    Record,
    decode,
    kept_until,
    kind_of,
    stored_kind,
)
from stocktide.tables.audit.fold import Discrepancy, FoldedRecord, JournalFold
from stocktide.tables.audit.redis_pass import ExaminedKey, RedisKey
from stocktide.tables.audit.tables_pass import DriftingRow, TableKey
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, SkuRecord

# Keys processed before the event loop runs other tasks.
_KEYS_PER_TURN = 2_000
# The counters that are sums over open orders, and over announcements; if they differ, those are right.
_SUM_PREFIXES = ("locked@", "committed@", "preordered@", "short@", "incoming#")
# The counter of the units that an order holds, by its state.
_HELD = {"reserved": "locked@", "paid": "committed@"}
# By SKU, the units held by open orders and those of announcements that are to come, as counters.
CounterSums = dict[str, dict[str, int]]
# The kinds stored in tables.
TABLE_KINDS: tuple[Kind, ...] = ("sku", "order", "movement")


class AuditCounts(Struct):
    """What was compared, and the seconds by phase. `settled_*`: keys that differed at first and agreed when read
    again."""

    batches: int = 0
    journal_bytes: int = 0
    redis_keys: int = 0
    rows: int = 0
    settled_redis: int = 0
    settled_tables: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class SideDigests(Struct):
    """The digest of each side as of the findings' batch."""

    log: Digest
    redis: Digest
    tables: Digest

    @property
    def agree(self) -> bool:
        """Whether all three agree; parked events and the registry are in no table."""
        return self.log == self.redis and self.log.hex(*TABLE_KINDS) == self.tables.hex(*TABLE_KINDS)


class Findings(Struct):
    """The findings as of `batch`. `whole`: the journal was read from its beginning. `unsettled`: rows still in flight
    at the end. `sides`: None if only some SKUs were audited. `unchecked`: sentences on what else was not checked."""

    batch: int
    whole: bool
    drifts: tuple[Drift, ...]
    unsettled: tuple[str, ...]
    counts: AuditCounts
    sides: SideDigests | None
    unchecked: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything requested was checked."""
        return not (self.unsettled or self.unchecked)


async def summarize_log(fold: JournalFold) -> tuple[Digest, CounterSums]:
    """The digest of the log, and the units of its open orders and announcements. The fold must not change meanwhile."""
    digest, sums, keys_read = Digest(), CounterSums(), 0
    kinds: tuple[Kind, ...] = ("sku", "order", "movement", "registry")
    for kind in kinds:
        for key, record in fold.records(kind):
            digest.add(kind_of(record), key, record)
            if isinstance(record, OrderRecord):
                _add_order(sums, record)
            elif isinstance(record, MovementRecord) and record.is_open:
                _add_announcement(sums, key.partition("\n")[2], record)
            keys_read += 1
            if keys_read % _KEYS_PER_TURN == 0:
                await asyncio.sleep(0)
    return digest, sums


async def find_log_drifts(
    fold: JournalFold, sums: CounterSums, skus: frozenset[str] | None
) -> dict[tuple[Subject, str], Drift]:
    """The inconsistencies within the log."""
    drifts: dict[tuple[Subject, str], Drift] = {
        ("order", order_id): Drift("order", order_id, _overwrite_differences(fold, order_id, right), since)
        for order_id, (right, since) in fold.overwritten.items()
        if skus is None or _has_line_of(fold.record("order", order_id), skus)
    }
    names = dict.fromkeys((*fold.keys("sku"), *sums)) if skus is None else skus
    for at, sku in enumerate(names):
        record = fold.record("sku", sku)
        assert record is None or isinstance(record, SkuRecord)
        discrepancy = fold.discrepancies.get(sku)
        differences = tuple(_sku_differences(record, sums.get(sku, {}), discrepancy))
        if differences:
            kept = fold.get("sku", sku)
            since = discrepancy.batch if discrepancy else kept.batch if kept else None
            drifts["sku", sku] = Drift("sku", sku, differences, since)
        if at % _KEYS_PER_TURN == 0:
            await asyncio.sleep(0)
    return drifts


def _has_line_of(record: Record | None, skus: frozenset[str]) -> bool:
    return isinstance(record, OrderRecord) and any(line.sku in skus for line in record.lines)


def _overwrite_differences(fold: JournalFold, order_id: str, right: FoldedRecord) -> tuple[Difference, ...]:
    record = fold.record("order", order_id)
    return () if record is None else fields_differing("log", decode("order", right.packed), record)


def _sku_differences(
    record: SkuRecord | None, held: dict[str, int], discrepancy: Discrepancy | None
) -> Iterator[Difference]:
    broken = list(_differing_sums(record, held))
    for counter, expected, found in broken:
        yield Difference("log", f"counter {counter}", expected, found)
    if discrepancy is None or record is None:
        return
    named = {counter for counter, _, _ in broken}
    for counter, off in sorted(discrepancy.off.items()):
        if counter not in named:
            found = record.counters.get(counter, 0)
            what = "effects on" if _is_sum(counter) else "counter"
            yield Difference("log", f"{what} {counter}", found - off, found)
    if discrepancy.version_off:
        yield Difference("log", "version", record.version - discrepancy.version_off, record.version)
    if discrepancy.restated:
        yield Difference("log", "restated row", "the state before", "another state")


def merge_drifts(
    fold: JournalFold,
    log: Mapping[tuple[Subject, str], Drift],
    redis: Mapping[RedisKey, ExaminedKey],
    tables: Mapping[TableKey, DriftingRow],
    foreign: Iterable[str],
    sums: Sequence[Difference] = (),
) -> tuple[Drift, ...]:
    """One drift per key, with the differences of all sides."""
    found: dict[tuple[Subject, str], list[Difference]] = {}
    since: dict[tuple[Subject, str], int | None] = {}
    for place, drift in log.items():
        found[place] = list(drift.differences)
        since[place] = drift.since
    for (kind, key), examined in redis.items():
        found.setdefault((stored_kind(kind), key), []).extend(examined.differences)
    for (table, key), shown in tables.items():
        found.setdefault((table, key), []).extend(shown.differences)
    for name in foreign:
        found["key", name] = [Difference("redis", "key", None, "a key that is not Stocktide's")]
    if sums:
        found["key", UNPAID_SUMS] = list(sums)
    return tuple(
        Drift(subject, key, tuple(differences), since.get((subject, key)) or _batch_of(fold, subject, key))
        for (subject, key), differences in sorted(found.items())
    )


def _batch_of(fold: JournalFold, subject: Subject, key: str) -> int | None:
    if subject == "policy":
        return fold.policies[key][0] if key in fold.policies else None
    if subject == "key":
        return None
    kept = fold.get(subject, key)
    return kept.batch if kept else None


def redis_digest(
    log: Digest, fold: JournalFold, drifting: Iterable[ExaminedKey], limits: LedgerLimits, at_ms: int
) -> Digest:
    """Redis's digest as of the log's batch: the log's, except for the differing keys."""
    digest = log.copy()
    for examined in drifting:
        _remove(digest, fold, examined.kind, examined.key)
        record = examined.stored.record(examined.kind)
        if record is not None and kept_until(record, limits) > at_ms + EXPIRY_MARGIN_MS:
            digest.add(kind_of(record), examined.key, record)
    return digest


def tables_digest(log: Digest, fold: JournalFold, drifting: Mapping[TableKey, DriftingRow]) -> Digest:
    """The tables' digest as of the log's batch: the log's, except for keys with differing rows."""
    digest = log.copy()
    for (kind, key), shown in drifting.items():
        if kind == "policy":
            continue
        _remove(digest, fold, kind, key)
        record = shown.row.record if shown.row else None
        if isinstance(record, SkuRecord | OrderRecord | MovementRecord):
            digest.add(kind, key, record)
    return digest


def _remove(digest: Digest, fold: JournalFold, kind: Kind, key: str) -> None:
    record = fold.record(kind, key)
    if record is not None:
        digest.remove(kind_of(record), key, record)


def _add_order(sums: CounterSums, record: OrderRecord) -> None:
    """Add the units that an order holds."""
    held = _HELD.get(record.state)
    if held is None:
        return
    for line in record.lines:
        if line.reserved or line.preordered or line.short:
            counters = sums.setdefault(line.sku, {})
            for warehouse, units in line.warehouses.items():
                name = held + warehouse
                counters[name] = counters.get(name, 0) + units
            for kind, units in (("preordered@", line.preordered), ("short@", line.short)):
                if units:
                    name = kind + record.channel
                    counters[name] = counters.get(name, 0) + units


def _add_announcement(sums: CounterSums, id_: str, record: MovementRecord) -> None:
    """Add the units of an announcement that are to come."""
    for line in record.lines:
        if line.incoming:
            counters, name = sums.setdefault(line.sku, {}), f"incoming#{id_}"
            counters[name] = counters.get(name, 0) + line.incoming


def _is_sum(counter: str) -> bool:
    """Whether a counter is a sum over open orders or announcements."""
    return counter.startswith(_SUM_PREFIXES)


def _differing_sums(record: SkuRecord | None, held: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """(counter, the sum over orders or announcements, the SKU's value) for each difference."""
    counters_of_sku = {name: units for name, units in record.counters.items() if _is_sum(name)} if record else {}
    if counters_of_sku == held:
        return
    for name in sorted(counters_of_sku.keys() | held.keys()):
        if counters_of_sku.get(name, 0) != held.get(name, 0):
            yield name, held.get(name, 0), counters_of_sku.get(name, 0)
