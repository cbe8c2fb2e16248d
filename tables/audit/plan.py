"""The repair plan: from the findings of an audit to the smallest set of corrections, one command per key.

In: a finished audit. Out: corrections, each with its command and changes; also a new correction for a key that changed
meanwhile. The correct state: an order is as in the log; `locked`, `committed` and `preordered` are the sums over open
orders, `incoming#` those over announcements; other counters are the sums of the logged effects; indexes follow from
records; table rows follow from the log.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from msgspec import Struct, structs

from stocktide.streams.topics import split_key
from stocktide.tables.audit.auditor import Auditor
from stocktide.tables.audit.compare import (
    UNPAID_SUMS,
    Difference,
    Drift,
    Subject,
    entries_of,
    fields_differing,
    index_differences,
)
from stocktide.tables.audit.digest import Kind, Record, canonical, decode, stored_kind
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.fold import counter_deltas
from stocktide.tables.audit.redis_keys import StoredKey
from stocktide.tables.audit.redis_pass import ExaminedKey, RedisKey
from stocktide.tables.history.sku_history import apply_deltas
from stocktide.tables.ledger.commands import Repair
from stocktide.tables.ledger.records import RegistryRecord, SkuRecord

# Of a repair's random id.
_ID_BYTES = 6
# Of the reason in the log; the audit's report has the whole text.
_WHY_CHARACTERS_MAX = 300


class RedisChange(Struct, frozen=True):
    """One change of a correction in Redis."""

    what: str
    before: Any
    after: Any


class Correction(Struct, frozen=True):
    """The correction of one key. `command` None: an operator must do it, for the reason `by_hand`. Without changes, the
    command only writes the table's row again from the log."""

    subject: Subject
    key: str
    differences: tuple[Difference, ...]
    changes: tuple[RedisChange, ...] = ()
    command: Repair | None = None
    by_hand: str = ""


class RepairPlanner:
    """Makes corrections for the findings of an audit, on behalf of `actor`."""

    def __init__(self, auditor: Auditor, findings: Findings, actor: str) -> None:
        self._auditor = auditor
        self._actor = actor
        self._drifts: dict[tuple[Subject, str], Drift] = {(each.subject, each.key): each for each in findings.drifts}
        # By SKU: the error of its counters in the log, and its newest repair at the time of the audit.
        self._errors = {key: _errors(drift) for (subject, key), drift in self._drifts.items() if subject == "sku"}
        self._repaired = {sku: self._newest_repair(sku) for sku in self._errors}

    async def plan(self) -> AsyncIterator[Correction]:
        """A correction for each drift, orders before the SKUs whose counters depend on them. Raises the errors of an
        audit."""
        for (subject, key), drift in self._drifts.items():
            if subject == "key":
                by_hand = "inspect it, and delete it if nothing uses it"
                if key == UNPAID_SUMS:
                    by_hand = "delete it: a sum that is missing is counted again"
                yield Correction(subject, key, drift.differences, by_hand=by_hand)
            elif subject == "policy":
                yield Correction(subject, key, drift.differences, command=self._policy(key, drift))
        for kinds in (("order", "movement", "registry"), ("sku",)):
            wanted = {each for each in self._drifts if each[0] in kinds}
            async for found in self._examined(wanted):
                yield self._correction(found)

    async def again(self, correction: Correction) -> Correction | None:
        """A new correction for a key that changed meanwhile; None if nothing is left to correct."""
        async for found in self._examined([(correction.subject, correction.key)]):
            anew = self._correction(found)
            is_elsewhere = any(each.side != "redis" for each in anew.differences)
            return anew if anew.changes or found.differences or is_elsewhere else None
        return None

    async def _examined(self, places: Iterable[tuple[Subject, str]]) -> AsyncIterator[ExaminedKey]:
        keys: dict[RedisKey, set[str]] = {}
        for subject, key in places:
            known = self._auditor.redis_drifts.get(_redis_key(subject, key))
            keys[_redis_key(subject, key)] = set(known.stored.entries) if known else set()
        async for found in self._auditor.examine(keys):
            yield found

    def _correction(self, found: ExaminedKey) -> Correction:
        """The correction of a key as just read; the fold is at the same batch."""
        subject = stored_kind(found.kind)
        drift = self._drifts[subject, found.key]
        wanted, stored = self._wanted(found.kind, found.key), found.stored.record(found.kind)
        deltas = None
        if isinstance(wanted, SkuRecord) and isinstance(stored, SkuRecord):
            deltas = counter_deltas(wanted.counters, stored.counters)
        indexed = {index for index, score in found.stored.entries.items() if score is not None}
        command = Repair(
            id=secrets.token_hex(_ID_BYTES),
            subject=subject,
            key=found.key,
            actor=self._actor,
            seen=found.stored.mark,
            wanted=None if wanted is None else msgspec.to_builtins(wanted),
            unindexed=tuple(sorted(indexed - entries_of(wanted).keys())),
            deltas=deltas,
            since=stored.repaired if isinstance(stored, SkuRecord) else "",
            why=_why(drift),
            before=_plain_value(found.stored, stored),
        )
        return Correction(
            subject, found.key, drift.differences, _changes(found.kind, wanted, stored, found.stored), command
        )

    def _wanted(self, kind: Kind, key: str) -> Record | None:
        fold = self._auditor.fold
        if kind == "registry":
            return fold.record(kind, key) or RegistryRecord()
        if key in fold.overwritten and kind == "order":
            return canonical(decode("order", fold.overwritten[key][0].packed))
        record = fold.record(kind, key)
        if isinstance(record, SkuRecord) and self._newest_repair(key) == self._repaired.get(key):
            return structs.replace(record, counters=apply_deltas(record.counters, self._errors.get(key, {}), -1))
        return record

    def _newest_repair(self, sku: str) -> str:
        record = self._auditor.fold.record("sku", sku)
        return record.repaired if isinstance(record, SkuRecord) else ""

    def _policy(self, key: str, drift: Drift) -> Repair:
        registry = self._auditor.fold.record("registry", "")
        is_channel = isinstance(registry, RegistryRecord) and key in registry.channels
        channel, sku = (key, "") if is_channel else split_key(key)
        return Repair(
            id=secrets.token_hex(_ID_BYTES),
            subject="policy",
            key=channel if sku else key,
            sku=sku or None,
            actor=self._actor,
            why=_why(drift),
        )


def _redis_key(subject: Subject, key: str) -> RedisKey:
    assert subject not in ("policy", "key")
    return subject, key  # type: ignore[return-value]


def _errors(drift: Drift) -> dict[str, int]:
    """By counter, the log's value minus the correct one."""
    return {
        each.what.removeprefix("counter "): each.found - each.expected
        for each in drift.differences
        if each.side == "log" and each.what.startswith("counter ")
    }


def _plain_value(stored: StoredKey, record: Record | None) -> Any:
    if stored.type == "none":
        return None
    if record is None:
        return f"a {stored.type} that is no record"
    return msgspec.to_builtins(record)


def _changes(kind: Kind, wanted: Record | None, record: Record | None, stored: StoredKey) -> tuple[RedisChange, ...]:
    changes: list[RedisChange] = []
    differences = [*index_differences(kind, wanted, stored)]
    if wanted is None or record is None:
        if wanted is not None or stored.type != "none":
            changes.append(RedisChange("record", _plain_value(stored, record), wanted and msgspec.to_builtins(wanted)))
    elif type(wanted) is type(record):
        differences = [*fields_differing("redis", wanted, record), *differences]
    return (*changes, *(RedisChange(each.what, each.found, each.expected) for each in differences))


def _why(drift: Drift) -> str:
    text = "; ".join(f"{each.side}: {each.what}" for each in drift.differences)
    return text if len(text) <= _WHY_CHARACTERS_MAX else text[: _WHY_CHARACTERS_MAX - 1] + "…"
