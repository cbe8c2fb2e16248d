"""The records that tell of what was found.

In: violations, then the history once more. Out: each violation with the records about its order, SKU, movement or
subscriber: the last before it was found, and the first after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import structs

from stocktide.loadtest.oracle.history import (
    AlertPublished,
    ChannelUpdatePublished,
    DeadLetterPublished,
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

# Of one finding: enough to follow an order from its placing, little enough to print.
BEFORE_MAX = 16
AFTER_MAX = 4

Subject = tuple[str, ...]


class _File:
    """One violation's evidence."""

    __slots__ = ("after", "at", "before")

    def __init__(self, at: int) -> None:
        self.at = at
        self.before: deque[HistoryRecord] = deque(maxlen=BEFORE_MAX)
        self.after: list[HistoryRecord] = []

    def take(self, record: HistoryRecord) -> None:
        if not self.at or record.at <= self.at:
            self.before.append(record)
        elif len(self.after) < AFTER_MAX:
            self.after.append(record)


class EvidenceCollector:
    """Gathers for all violations in one pass."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self._files: dict[int, _File] = {}
        self._wanted: dict[Subject, list[_File]] = {}
        # Requests about what is wanted, whose answers name only the request.
        self._numbers: dict[int, list[_File]] = {}
        for violation in violations:
            file = self._files[id(violation)] = _File(violation.at)
            for subject in _subjects_of(violation):
                self._wanted.setdefault(subject, []).append(file)

    def take(self, record: HistoryRecord) -> None:
        """Keep the record where it tells of something that was found."""
        files: list[_File] = []
        for subject in _subjects_in(record):
            for file in self._wanted.get(subject, ()):
                if file not in files:
                    files.append(file)
        if isinstance(record, Request) and files:
            self._numbers[record.number] = files
        elif isinstance(record, Response | NoResponse):
            files = self._numbers.pop(record.number, files)
        for file in files:
            file.take(record)

    def proved(self, violation: Violation) -> Violation:
        """The violation with its evidence."""
        file = self._files[id(violation)]
        return structs.replace(violation, evidence=(*file.before, *file.after))


def _subjects_of(violation: Violation) -> Iterator[Subject]:
    if violation.order_id is not None:
        yield ("order", violation.order_id)
    if violation.subscriber is not None and violation.sku is not None:
        yield ("sees", violation.subscriber, violation.sku)
        yield ("subscriber", violation.subscriber)
    if violation.channel is not None:
        yield ("channel", violation.channel, violation.sku or "")
    elif violation.sku is not None:
        yield ("sku", violation.sku)
    if violation.warehouse is not None and violation.id is not None:
        yield ("movement", violation.warehouse, violation.id)


def _subjects_in(record: HistoryRecord) -> Iterator[Subject]:
    match record:
        case Request(event=event):
            yield from _subjects_asked(event)
        case Response(order=order) if order is not None:
            yield ("order", order.order_id)
        case OrderPublished(order=order):
            yield ("order", order.order_id)
        case ReadOrder(order_id=order_id):
            yield ("order", order_id)
        case AlertPublished(alert=alert):
            yield ("sku", alert.sku)
        case StockPublished(stock=stock):
            yield ("sku", stock.sku)
        case ReadStock(sku=sku):
            yield ("sku", sku)
        case MovementPublished(movement=movement):
            yield ("movement", movement.warehouse, movement.id)
            for line in movement.lines:
                yield ("sku", line.sku)
        case ReadMovement(warehouse=warehouse, id=id_):
            yield ("movement", warehouse, id_)
        case DeadLetterPublished():
            pass
        case _:
            yield from _subjects_watched(record)


def _subjects_asked(event: dict[str, object]) -> Iterator[Subject]:
    for name in ("order_id", "supersedes"):
        if isinstance(order_id := event.get(name), str):
            yield ("order", order_id)
    if isinstance(warehouse := event.get("warehouse"), str) and isinstance(id_ := event.get("id"), str):
        yield ("movement", warehouse, id_)
    if "policy" in event and isinstance(channel := event.get("channel"), str):
        yield ("channel", channel, str(event.get("sku") or ""))


def _subjects_watched(record: HistoryRecord) -> Iterator[Subject]:
    match record:
        case UpdateReceived(subscriber=subscriber, update=update):
            yield ("sees", subscriber, update.sku)
        case Subscribed(subscriber=subscriber) | Synced(subscriber=subscriber) | Unsubscribed(subscriber=subscriber):
            yield ("subscriber", subscriber)
        case ChannelUpdatePublished(update=update):
            yield ("channel", update.channel, update.sku)
        case PolicyPublished(policy=policy):
            yield ("channel", policy.channel, policy.sku or "")
        case ReadPolicy(channel=channel, sku=sku):
            yield ("channel", channel, sku or "")
        case ReadChannel(channel=channel, items=items):
            for item in items:
                yield ("channel", channel, item.sku)
        case _:
            pass
