"""From what an audit found to the smallest set of corrections: one command for each key.

In: an audit that has run. Out: corrections, each with the command that makes it and what it changes; and anew, for one
whose key moved on before its correction came. What is right: an order is what the log says; `locked`, `committed` and
`preordered` are what open orders hold (promises stand); every other counter is the sum of the effects that were logged;
indexes follow from the record; a table's row follows from the log.
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
    Difference,
    Drift,
    Subject,
    deadline_of,
    dwell_of,
    fields_differing,
    holds_of,
    waiting_of,
)
from stocktide.tables.audit.digest import Kind, Record, canonical, decode
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.redis_keys import StoredKey
from stocktide.tables.audit.redis_pass import ExaminedKey
from stocktide.tables.audit.redis_pass import Key as RedisKey
from stocktide.tables.ledger.commands import Repair
from stocktide.tables.ledger.records import OrderRecord, RegistryRecord, SkuRecord

# A repair's id: no two are the same by accident.
_ID_BYTES = 6
# What goes into the log of a reason; the audit's report has it all.
_WHY_CHARACTERS_MAX = 300


class RedisChange(Struct, frozen=True):
    """Something that a correction changes in Redis: from, to."""

    what: str
    before: Any
    after: Any


class Correction(Struct, frozen=True):
    """One key put right. `command` None: only a person can, `by_hand` says why. Without changes it only has the row
    written anew, from the log."""

    subject: Subject
    key: str
    differences: tuple[Difference, ...]
    changes: tuple[RedisChange, ...] = ()
    command: Repair | None = None
    by_hand: str = ""


class RepairPlanner:
    """Plans for the findings of an audit, on behalf of `actor`."""

    def __init__(self, auditor: Auditor, findings: Findings, actor: str) -> None:
        self._auditor = auditor
        self._actor = actor
        self._drifts: dict[tuple[Subject, str], Drift] = {(each.subject, each.key): each for each in findings.drifts}
        # By SKU: how far its counters are from what is right, in the log, and its newest repair when that was found.
        self._off = {key: _off(drift) for (subject, key), drift in self._drifts.items() if subject == "sku"}
        self._repaired = {sku: self._newest_repair(sku) for sku in self._off}

    async def plan(self) -> AsyncIterator[Correction]:
        """A correction for each drift; orders come before the SKUs whose counters follow from them. Raises what an
        audit raises."""
        for (subject, key), drift in self._drifts.items():
            if subject == "key":
                yield Correction(subject, key, drift.differences, by_hand="look at it, and delete it if nobody uses it")
            elif subject == "policy":
                yield Correction(subject, key, drift.differences, command=self._policy(key, drift))
        for kinds in (("order", "movement", "registry"), ("sku",)):
            wanted = {each for each in self._drifts if each[0] in kinds}
            async for found in self._examined(wanted):
                yield self._correction(found)

    async def again(self, correction: Correction) -> Correction | None:
        """The correction of a key that moved on, as of now; None where nothing is left to be put right."""
        async for found in self._examined([(correction.subject, correction.key)]):
            anew = self._correction(found)
            is_elsewhere = any(each.side != "redis" for each in anew.differences)
            return anew if anew.changes or found.differences or is_elsewhere else None
        return None

    async def _examined(self, places: Iterable[tuple[Subject, str]]) -> AsyncIterator[ExaminedKey]:
        keys: dict[RedisKey, set[str]] = {}
        for subject, key in places:
            known = self._auditor.redis_drifts.get(_redis_key(subject, key))
            keys[_redis_key(subject, key)] = set(known.stored.held) if known else set()
        async for found in self._auditor.examine(keys):
            yield found

    def _correction(self, found: ExaminedKey) -> Correction:
        """What puts a key right, as it was read just now; the fold stands at that very batch."""
        subject: Subject = "order" if found.kind == "parked" else found.kind
        drift = self._drifts[subject, found.key]
        wanted, stored = self._wanted(found.kind, found.key), _record_of(found.kind, found.stored)
        deltas = None
        if isinstance(wanted, SkuRecord) and isinstance(stored, SkuRecord):
            deltas = _deltas(stored.counters, wanted.counters)
        held = {sku for sku, score in found.stored.held.items() if score is not None}
        command = Repair(
            id=secrets.token_hex(_ID_BYTES),
            subject=subject,
            key=found.key,
            actor=self._actor,
            seen=found.stored.mark,
            wanted=None if wanted is None else msgspec.to_builtins(wanted),
            unheld=tuple(sorted(held - holds_of(wanted).keys())),
            deltas=deltas,
            since=stored.repaired if isinstance(stored, SkuRecord) else "",
            why=_why(drift),
            before=_shown(found.stored, stored),
        )
        return Correction(subject, found.key, drift.differences, _changes(wanted, stored, found.stored), command)

    def _wanted(self, kind: Kind, key: str) -> Record | None:
        fold = self._auditor.fold
        if kind == "registry":
            return fold.record(kind, key) or RegistryRecord()
        if key in fold.overwritten and kind == "order":
            return canonical(decode("order", fold.overwritten[key][0].packed))
        record = fold.record(kind, key)
        if isinstance(record, SkuRecord) and self._newest_repair(key) == self._repaired.get(key):
            off = self._off.get(key, {})
            counters = {name: n for name, n in _moved(record.counters, off, -1).items() if n}
            return structs.replace(record, counters=counters)
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


def _off(drift: Drift) -> dict[str, int]:
    """By counter, how much more the log's rows say than what is right."""
    return {
        each.what.removeprefix("counter "): each.found - each.expected
        for each in drift.differences
        if each.side == "log" and each.what.startswith("counter ")
    }


def _moved(counters: dict[str, int], by: dict[str, int], sign: int) -> dict[str, int]:
    moved = dict(counters)
    for name, units in by.items():
        moved[name] = moved.get(name, 0) + sign * units
    return moved


def _deltas(stored: dict[str, int], wanted: dict[str, int]) -> dict[str, int]:
    names = stored.keys() | wanted.keys()
    return {name: n for name in names if (n := wanted.get(name, 0) - stored.get(name, 0))}


def _record_of(kind: Kind, stored: StoredKey) -> Record | None:
    """What Redis holds, if it is a record."""
    try:
        return canonical(decode(kind, stored.packed)) if stored.type == "string" else None
    except msgspec.MsgspecError:
        return None


def _shown(stored: StoredKey, record: Record | None) -> Any:
    if stored.type == "none":
        return None
    if record is None:
        return f"a {stored.type} that is no record"
    return msgspec.to_builtins(record)


def _changes(wanted: Record | None, record: Record | None, stored: StoredKey) -> tuple[RedisChange, ...]:
    changes: list[RedisChange] = []
    if wanted is None or record is None:
        if wanted is not None or stored.type != "none":
            changes.append(RedisChange("record", _shown(stored, record), wanted and msgspec.to_builtins(wanted)))
    elif type(wanted) is type(record):
        changes += [
            RedisChange(each.what, each.found, each.expected) for each in fields_differing("redis", wanted, record)
        ]
    if isinstance(wanted, OrderRecord) or stored.deadline is not None or stored.waiting or stored.held:
        if stored.deadline != deadline_of(wanted):
            changes.append(RedisChange("deadline", stored.deadline, deadline_of(wanted)))
        if stored.waiting != waiting_of(wanted):
            changes.append(RedisChange("entry in waiting", stored.waiting, waiting_of(wanted)))
        holds = holds_of(wanted)
        for sku in dict.fromkeys((*holds, *stored.held)):
            if holds.get(sku) != stored.held.get(sku):
                changes.append(RedisChange(f"entry in held:{sku}", stored.held.get(sku), holds.get(sku)))
    if isinstance(wanted, SkuRecord) or stored.known is not None or stored.dwell is not None:
        if (stored.known is None) is not (wanted is None):
            changes.append(RedisChange("entry in skus", stored.known is not None, wanted is not None))
        if stored.dwell != dwell_of(wanted):
            changes.append(RedisChange("entry in dwells", stored.dwell, dwell_of(wanted)))
    return tuple(changes)


def _why(drift: Drift) -> str:
    text = "; ".join(f"{each.side}: {each.what}" for each in drift.differences)
    return text if len(text) <= _WHY_CHARACTERS_MAX else text[: _WHY_CHARACTERS_MAX - 1] + "…"
