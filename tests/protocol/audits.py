"""Audits of a rig, a shop with an order in every state, and ways to spoil its Redis and rows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import structs

from stocktide.streams.topics import join_key
from stocktide.tables.audit.auditor import Auditor
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.redis_keys import RedisSide
from stocktide.tables.derived_rows import PolicyLevel, RowKind, StoredRow
from stocktide.tables.ledger.commands import Cancel, Command, Pay, Place, Receive, SetPolicy, Ship
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.packed import unpack_sku
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.ledger.records import Decision
from stocktide.tables.recovery.checkpoints import Checkpoints
from tests.protocol.rig import ProtocolRig

LIMITS = LedgerLimits()
_ids = itertools.count(1)


def receive(sku: str, quantity: int, warehouse: str = "SH1") -> Receive:
    mark = f"r{next(_ids)}"
    return Receive(id=mark, warehouse=warehouse, at=1_000, fingerprint=mark, lines=((sku, quantity),))


def place(order_id: str, *lines: tuple[str, int], **more: Any) -> Place:
    return Place(
        id="placed", order_id=order_id, at=1, fingerprint=order_id, channel="jd", lines=lines or (("A", 1),), **more
    )


def pay(order_id: str) -> Pay:
    return Pay(id="paid", order_id=order_id, at=1, fingerprint="pay")


def cancel(order_id: str) -> Cancel:
    return Cancel(id="cancelled", order_id=order_id, at=1, fingerprint="cancel")


# A shop with an order in every state.
OPENING: tuple[Command, ...] = (
    SetPolicy(channel="jd", policy={"buffer": 1}),
    SetPolicy(channel="jd", sku="A", policy={}),
    receive("A", 100),
    receive("A", 50, "BJ1"),
    receive("B", 10),
    place("o1", ("A", 2), ("B", 1)),
    place("o2"),
    pay("o2"),
    place("o3"),
    cancel("o3"),
    place("o4", ("A", 1_000)),
    place("o5"),
    pay("o5"),
    Ship(id="s", order_id="o5", at=2_000, fingerprint="s", lines=(("A", 1, "SH1"),)),
)


class MemoryTables:
    """The `KafkaTables` of a journal in memory."""

    def __init__(self, rig: ProtocolRig) -> None:
        self._rows = rig.rows
        self._rig = rig
        self._spoiled: list[StoredRow] = []
        self._lost: set[tuple[RowKind, str]] = set()
        self._spoiled_at = 0

    def spoil(self, *rows: StoredRow, lost: Iterable[tuple[RowKind, str]] = ()) -> None:
        """Add rows that follow from no batch and lose others, before the rows of later batches."""
        self._spoiled, self._lost = list(rows), set(lost)
        self._spoiled_at = len(self._rig.valid())

    async def checkpoints(self) -> Checkpoints:
        """See KafkaTables. Derives all batches first."""
        self._rows.keep()
        return await self._rows.checkpoints()

    async def rows(self, report: Callable[[int, int], None]) -> AsyncIterator[list[StoredRow]]:
        """See KafkaTables."""
        self._rows.keep()
        known = [*self._rows.known.values(), *self._policies()]
        old = [row for row in known if row.batch <= self._spoiled_at and (row.kind, row.key) not in self._lost]
        yield [*old, *self._spoiled, *(row for row in known if row.batch > self._spoiled_at), *self._removed()]

    async def close(self) -> None:
        """See KafkaTables."""

    def _policies(self) -> Iterator[StoredRow]:
        for decision in decisions(self._rig):
            for row in decision.policies:
                key = join_key(row.channel, row.sku) if row.sku else row.channel
                level = None if row.policy is None else dict(row.policy)
                yield StoredRow("policy", key, decision.batch, PolicyLevel(row.channel, row.sku or None, level))

    def _removed(self) -> Iterator[StoredRow]:
        for decision in decisions(self._rig):
            for repair in decision.repairs:
                if repair.after is None and repair.subject in ("sku", "order", "movement"):
                    yield StoredRow(repair.subject, repair.key, 0, None)  # type: ignore[arg-type]


def decisions(rig: ProtocolRig) -> list[Decision]:
    return [decode_decision(record.payload) for record in rig.valid()]


def auditor_of(rig: ProtocolRig, skus: frozenset[str] | None = None, tables: MemoryTables | None = None) -> Auditor:
    side = RedisSide(rig.redis, rig.app_id)
    return Auditor(rig.log(), side, tables or MemoryTables(rig), LIMITS, lambda phase, done, total: None, skus)


async def audit(rig: ProtocolRig, *skus: str, tables: MemoryTables | None = None) -> Findings:
    return await auditor_of(rig, frozenset(skus) or None, tables).run()


def differences_by_key(findings: Findings) -> dict[str, set[tuple[str, str]]]:
    """The side and the subject of each difference, by key."""
    return {
        f"{drift.subject} {drift.key}": {(each.side, each.what) for each in drift.differences}
        for drift in findings.drifts
    }


async def spoil_sku(rig: ProtocolRig, sku: str, counters: dict[str, int]) -> None:
    """Overwrite counters of a SKU in Redis, outside any batch."""
    key = f"{rig.prefix}sku:{sku}"
    record = unpack_sku(await rig.redis.get(key))
    spoiled = structs.replace(record, counters=record.counters | counters)
    await rig.redis.set(key, msgspec.msgpack.encode(spoiled))


def is_clean(findings: Findings) -> bool:
    """Whether an audit found no difference."""
    assert findings.sides is not None
    return not findings.drifts and not findings.unsettled and findings.sides.agree
