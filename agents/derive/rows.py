"""Decisions → rows of the derived topics, as described in docs/architecture.md.

In: decisions, in the journal's order. Out: the rows of each topic; of states only the newest per key.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from itertools import chain
from typing import Any

from msgspec import UNSET, structs

from stocktide.agents.dead_letters import (
    BurstDetector,
    dead_letter_of_record,
    dead_letter_of_refused,
    system_alert,
)
from stocktide.streams.contract.documents import Approval, PublishedAlert, PublishedPolicy, encode
from stocktide.streams.contract.times import rfc3339
from stocktide.streams.journal.record import JournalRecord
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.topics import (
    ADJUSTMENTS,
    ALERTS,
    AUDIT,
    DEAD_LETTERS,
    POLICIES,
    RESERVATIONS,
    STOCK,
    Topic,
    join_key,
)
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.raw_decision import (
    PackedMovement,
    PackedOrder,
    PackedSku,
    RawDecision,
    is_parked,
    unpack_effects,
    unpack_movement,
    unpack_offers,
    unpack_order,
    unpack_sku,
)
from stocktide.tables.ledger.records import ActionRow, Alert, PolicyRow, RepairRow
from stocktide.tables.views import approval_view, published_movement, published_order, published_stock

# Stands in the record of every forced order, and in hardly any other.
_APPROVAL = b"approval"
# The actor of the end of a request whose time is over.
_LEDGER = "ledger"


class RowCollector:
    """Collects the rows of a few batches."""

    def __init__(self) -> None:
        # With the batch, and whether the row only states the order again.
        self._orders: dict[str, tuple[PackedOrder, int, bool]] = {}
        self._movements: dict[tuple[str, str], tuple[PackedMovement, int]] = {}
        self._skus: dict[str, tuple[PackedSku, int]] = {}
        self._policies: dict[tuple[str, str], tuple[PolicyRow, int]] = {}
        # Tombstones of keys that a repair removed; they precede later rows.
        self._removed: dict[Topic, list[OutputRow]] = {RESERVATIONS: [], ADJUSTMENTS: [], STOCK: []}
        self._events: dict[Topic, list[OutputRow]] = {ALERTS: [], AUDIT: [], DEAD_LETTERS: []}
        # Commands by outcome, repeats left out.
        self.outcomes: Tally[str] = Tally()

    def add(self, decision: RawDecision) -> None:
        """Add a batch; it is newer than all before."""
        batch, restates = decision.batch, _only_restates(decision)
        self.outcomes.update(result.outcome for result in decision.results if not result.replayed)
        for order in decision.orders:
            if order.changed and not is_parked(order.record):
                if _APPROVAL in bytes(order.record):
                    self._events[AUDIT] += _approval_rows(order, decision)
                before = self._orders.get(order.order_id)
                order.repromised = order.repromised or (before is not None and before[0].repromised)
                self._orders[order.order_id] = (order, batch, restates and (before is None or before[2]))
        for movement in decision.movements:
            if movement.changed:
                self._movements[movement.warehouse, movement.id] = (movement, batch)
        for sku in decision.skus:
            self._skus[sku.sku] = (sku, batch)
        restated = {repair.key for repair in decision.repairs if repair.subject == "policy"}
        for policy in decision.policies:
            self._policies[policy.channel, policy.sku] = (policy, batch)
            if (f"{policy.channel}\n{policy.sku}" if policy.sku else policy.channel) not in restated:
                self._events[AUDIT].append(_audit_row(policy, decision))
        for repair in decision.repairs:
            self._events[AUDIT].append(_repair_row(repair, decision))
            if repair.after is None:
                self._remove(repair)
        for action in decision.actions:
            self._events[AUDIT].append(_action_row(action, decision))
        for index, alert in enumerate(decision.alerts):
            self._events[ALERTS].append(_alert_row(alert, index, decision))
        for refused in decision.refused:
            self._events[DEAD_LETTERS].append(dead_letter_of_refused(refused, decision.at))

    def add_unreadable(self, place: RecordPlace, record: JournalRecord, error: str) -> None:
        """Add a dead letter and an alert for a valid batch that cannot be decoded."""
        detail = f"batch {record.batch} cannot be read: {error}; `stocktide audit` tells what is missing"
        self._events[DEAD_LETTERS].append(dead_letter_of_record("unreadable_batch", detail, place, record.payload))
        self._events[ALERTS].append(system_alert("unreadable_batch", f"batch-{record.batch}", detail, record.batch))

    def _remove(self, repair: RepairRow) -> None:
        key = repair.key
        if repair.subject == "sku":
            self._skus.pop(key, None)
            self._removed[STOCK].append((key.encode(), None))
        elif repair.subject == "order":
            self._orders.pop(key, None)
            self._removed[RESERVATIONS].append((key.encode(), None))
        elif repair.subject == "movement":
            warehouse, _, id_ = key.partition("\n")
            self._movements.pop((warehouse, id_), None)
            self._removed[ADJUSTMENTS].append((join_key(warehouse, id_).encode(), None))

    def add_burst_alerts(self, bursts: BurstDetector) -> None:
        """Add the alerts for bursts of dead letters."""
        self._events[ALERTS] += bursts.add(self._events[DEAD_LETTERS])

    def by_topic(self) -> Iterator[tuple[Topic, Iterator[OutputRow]]]:
        """Each topic with its rows. Rows are made lazily: each takes some 10 µs, and there may be many."""
        yield RESERVATIONS, chain(self._removed[RESERVATIONS], (_order_row(*entry) for entry in self._orders.values()))
        yield (
            ADJUSTMENTS,
            chain(self._removed[ADJUSTMENTS], (_movement_row(*entry) for entry in self._movements.values())),
        )
        yield STOCK, chain(self._removed[STOCK], (_stock_row(*entry) for entry in self._skus.values()))
        yield POLICIES, (row for entry in self._policies.values() for row in _policy_rows(*entry))
        for topic, rows in self._events.items():
            yield topic, iter(rows)


def _only_restates(decision: RawDecision) -> bool:
    """Whether the batch is a page of the restate pass that has changed nothing."""
    results = decision.results
    return len(results) == 1 and results[0].outcome == Outcome.RESTATED and not unpack_effects(decision)


def _order_row(row: PackedOrder, batch: int, restated: bool) -> OutputRow:
    document = published_order(row.order_id, unpack_order(row.record), batch, restated, row.repromised)
    return row.order_id.encode(), encode(document)


def _movement_row(row: PackedMovement, batch: int) -> OutputRow:
    document = published_movement(row.warehouse, row.id, unpack_movement(row.record), batch)
    return join_key(row.warehouse, row.id).encode(), encode(document)


def _stock_row(row: PackedSku, batch: int) -> OutputRow:
    document = published_stock(row.sku, unpack_sku(row.record), unpack_offers(row), batch)
    return row.sku.encode(), encode(document)


def _policy_rows(row: PolicyRow, batch: int) -> list[OutputRow]:
    key = (join_key(row.channel, row.sku) if row.sku else row.channel).encode()
    document = PublishedPolicy(row.channel, row.sku or None, _fields(row.policy), batch)
    rows: list[OutputRow] = [(key, encode(document))]
    if row.policy is None and row.sku:
        rows.append((key, None))
    return rows


def _audit_row(row: PolicyRow, decision: RawDecision) -> OutputRow:
    view = {
        "actor": row.actor,
        "action": "policy_deleted" if row.policy is None else "policy_set",
        "channel": row.channel,
        "sku": row.sku or None,
        "before": _fields(row.before),
        "after": _fields(row.policy),
        "at": rfc3339(decision.at),
        "batch": decision.batch,
    }
    if row.requested_by is not None:
        view |= {"id": row.id, "kind": "policy", "requested_by": row.requested_by, "reason": row.reason}
    return row.actor.encode(), encode(view)


def _approval_rows(row: PackedOrder, decision: RawDecision) -> list[OutputRow]:
    """The request and its end, of those the one of this batch: later batches repeat the record."""
    order = unpack_order(row.record)
    if (record := order.approval) is None:
        return []
    rows = []
    view = approval_view(row.order_id, order, record)
    if record.asked_in == decision.batch:
        after: dict[str, Any] = {"state": "waiting", "expires_at": view.expires_at, "lines": view.lines}
        rows.append(_approval_row(record.by, "approval_requested", record.reason, view, None, after, decision))
    if record.decided_in == decision.batch:
        action = f"approval_{record.state}"
        after = {"state": record.state, "order_state": order.state, "outcome": view.outcome}
        before = {"state": "waiting"}
        actor = record.decided_by or _LEDGER
        rows.append(_approval_row(actor, action, record.comment, view, before, after, decision))
    return rows


def _approval_row(
    actor: str,
    action: str,
    reason: str | None,
    approval: Approval,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    decision: RawDecision,
) -> OutputRow:
    view = {
        "actor": actor,
        "action": action,
        "id": approval.id,
        "kind": approval.kind,
        "order_id": approval.order_id,
        "channel": approval.channel,
        "requested_by": approval.requested_by,
        "reason": reason,
        "before": before,
        "after": after,
        "at": rfc3339(decision.at),
        "batch": decision.batch,
    }
    return actor.encode(), encode(view)


def _action_row(row: ActionRow, decision: RawDecision) -> OutputRow:
    view = {
        "actor": row.actor,
        "action": row.action,
        "order_id": row.order_id,
        "id": row.id,
        "reason": row.reason,
        "before": [structs.asdict(line) for line in row.before],
        "after": [structs.asdict(line) for line in row.after],
        "at": rfc3339(decision.at),
        "batch": decision.batch,
    }
    return row.actor.encode(), encode(view)


def _repair_row(repair: RepairRow, decision: RawDecision) -> OutputRow:
    view = {
        "actor": repair.actor,
        "action": "repaired",
        "subject": repair.subject,
        "key": repair.key.replace("\n", "/"),
        "id": repair.id,
        "why": repair.why,
        "before": repair.before,
        "after": repair.after,
        "at": rfc3339(decision.at),
        "batch": decision.batch,
    }
    return repair.actor.encode(), encode(view)


def _alert_row(alert: Alert, index: int, decision: RawDecision) -> OutputRow:
    document = PublishedAlert(
        id=f"{decision.batch}-{index}",
        type=alert.type,
        sku=alert.sku,
        warehouse=alert.warehouse,
        channel=alert.channel,
        order_id=alert.order_id,
        quantity=alert.quantity,
        orders=alert.orders,
        event_id=alert.event_id,
        event_type=alert.event_type,
        at=rfc3339(decision.at),
        batch=decision.batch,
        detail=UNSET if alert.detail is None else alert.detail,
    )
    return alert.sku.encode(), encode(document)


def _fields(policy: dict[str, Any] | tuple[()] | None) -> dict[str, Any] | None:
    """A policy's fields; Lua packs an empty map as an empty array."""
    return None if policy is None else dict(policy)
