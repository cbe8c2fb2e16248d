"""Rows of the public topics as records of a run's history.

In: rows as `loadtest.client.topics.Feeds` reads them. Out: records, to whoever keeps the history. A row that is not
what the contract says is a record too: nobody may pass over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stocktide.loadtest.client.contract import (
    AlertView,
    ChannelUpdateView,
    DeadLetterView,
    MovementView,
    OrderView,
    PolicyView,
    StockView,
)
from stocktide.loadtest.client.topics import RowHandler, TopicRecord
from stocktide.loadtest.oracle.history import (
    AlertPublished,
    ChannelUpdatePublished,
    DeadLetterPublished,
    HistoryClock,
    HistoryRecord,
    MovementPublished,
    OrderPublished,
    PolicyPublished,
    StockPublished,
    UnreadableRow,
)

# What a row of each topic is, and its record.
_KINDS: dict[str, tuple[Any, Any]] = {
    "reservations": (OrderView, OrderPublished),
    "adjustments": (MovementView, MovementPublished),
    "stock": (StockView, StockPublished),
    "channel-stock": (ChannelUpdateView, ChannelUpdatePublished),
    "policies": (PolicyView, PolicyPublished),
    "dead-letters": (DeadLetterView, DeadLetterPublished),
    "alerts": (AlertView, AlertPublished),
}


def recorders(clock: HistoryClock, add: Callable[[HistoryRecord], None]) -> dict[str, RowHandler]:
    """A taker for every topic that a checker looks at."""
    return {topic: _recorder(topic, kind, record, clock, add) for topic, (kind, record) in _KINDS.items()}


def _recorder(
    topic: str, kind: Any, record: Any, clock: HistoryClock, add: Callable[[HistoryRecord], None]
) -> RowHandler:
    decoder = msgspec.json.Decoder(kind)

    def take(row: TopicRecord) -> None:
        try:
            value = decoder.decode(row.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            add(UnreadableRow(clock.now(), row.partition, row.offset, topic, str(error)))
        else:
            add(record(clock.now(), row.partition, row.offset, value))

    return take
