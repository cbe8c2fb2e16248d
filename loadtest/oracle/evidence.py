"""Evidence: the records of the history that concern the violations found.

In: violations, then the history once more. Out: each violation with the records about its order, SKU, movement or
subscriber: the last ones before it and the first ones after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import structs

from stocktide.loadtest.client.contract import AlertView, OrderView, StockView
from stocktide.loadtest.oracle.history import (
    AlertPublished,
    ChannelUpdatePublished,
    HistoryRecord,
    MovementPublished,
    NoResponse,
    OrderPublished,
    PolicyPublished,
    ReadChannel,
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
    Request,
    Response,
    StockPublished,
    Subscribed,
    Synced,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.verdict import Violation

# Records per violation: enough to follow an order from its placement, few enough to print.
BEFORE_MAX = 16
AFTER_MAX = 4

Subject = tuple[str, ...]


class _ViolationEvidence:
    """The evidence for one violation."""

    __slots__ = ("after", "at", "before")

    def __init__(self, at: int) -> None:
        self.at = at
        self.before: deque[HistoryRecord] = deque(maxlen=BEFORE_MAX)
        self.after: list[HistoryRecord] = []

    def add(self, record: HistoryRecord) -> None:
        if not self.at or record.at <= self.at:
            self.before.append(record)
        elif len(self.after) < AFTER_MAX:
            self.after.append(record)


class EvidenceCollector:
    """Collects the evidence for all violations in one pass."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self._by_violation: dict[int, _ViolationEvidence] = {}
        self._by_subject: dict[Subject, list[_ViolationEvidence]] = {}
        # By request number: a response names only its request.
        self._by_request: dict[int, list[_ViolationEvidence]] = {}
        for violation in violations:
            collected = self._by_violation[id(violation)] = _ViolationEvidence(violation.at)
            for subject in _violation_subjects(violation):
                self._by_subject.setdefault(subject, []).append(collected)

    def add(self, record: HistoryRecord) -> None:
        """Keep the record if it concerns a violation."""
        matching: list[_ViolationEvidence] = []
        for subject in _record_subjects(record):
            for collected in self._by_subject.get(subject, ()):
                if collected not in matching:
                    matching.append(collected)
        if isinstance(record, Request) and matching:
            self._by_request[record.number] = matching
        elif isinstance(record, Response | NoResponse):
            matching = self._by_request.pop(record.number, matching)
        for collected in matching:
            collected.add(record)

    def with_evidence(self, violation: Violation) -> Violation:
        collected = self._by_violation[id(violation)]
        return structs.replace(violation, evidence=(*collected.before, *collected.after))


def _violation_subjects(violation: Violation) -> Iterator[Subject]:
    if violation.order_id is not None:
        yield ("order", violation.order_id)
    if violation.subscriber is not None and violation.sku is not None:
        yield ("update", violation.subscriber, violation.sku)
        yield ("subscriber", violation.subscriber)
    if violation.channel is not None:
        yield ("channel", violation.channel, violation.sku or "")
    elif violation.sku is not None:
        yield ("sku", violation.sku)
    if violation.warehouse is not None and violation.id is not None:
        yield ("movement", violation.warehouse, violation.id)


def _record_subjects(record: HistoryRecord) -> Iterator[Subject]:
    match record:
        case Request(event=event):
            yield from _event_subjects(event)
        case Response(order=OrderView(order_id=order_id)) | OrderPublished(order=OrderView(order_id=order_id)):
            yield ("order", order_id)
        case ReadOrder(order_id=order_id):
            yield ("order", order_id)
        case AlertPublished(alert=AlertView(sku=sku)) | StockPublished(stock=StockView(sku=sku)) | ReadStock(sku=sku):
            yield ("sku", sku)
        case MovementPublished(movement=movement):
            yield ("movement", movement.warehouse, movement.id)
            for line in movement.lines:
                yield ("sku", line.sku)
        case ReadMovement(warehouse=warehouse, id=id_):
            yield ("movement", warehouse, id_)
        case UpdateReceived(subscriber=subscriber, update=update):
            yield ("update", subscriber, update.sku)
        case Subscribed(subscriber=subscriber) | Synced(subscriber=subscriber) | Unsubscribed(subscriber=subscriber):
            yield ("subscriber", subscriber)
        case ChannelUpdatePublished(update=level) | PolicyPublished(policy=level):
            yield ("channel", level.channel, level.sku or "")
        case ReadPolicy(channel=channel, sku=sku_or_none):
            yield ("channel", channel, sku_or_none or "")
        case ReadChannel(channel=channel, items=items):
            for item in items:
                yield ("channel", channel, item.sku)
        case _:
            pass


def _event_subjects(event: dict[str, object]) -> Iterator[Subject]:
    for name in ("order_id", "supersedes"):
        if isinstance(order_id := event.get(name), str):
            yield ("order", order_id)
    if isinstance(warehouse := event.get("warehouse"), str) and isinstance(id_ := event.get("id"), str):
        yield ("movement", warehouse, id_)
    if "policy" in event and isinstance(channel := event.get("channel"), str):
        yield ("channel", channel, str(event.get("sku") or ""))
