"""Rows of the public topics as records of a run's history.

In: rows of a `TopicReader`. Out: records. A row that breaks the contract becomes an `UnreadableRow`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stocktide.loadtest.client import contract
from stocktide.loadtest.client.topics import RowHandler, TopicRecord
from stocktide.loadtest.oracle import history
from stocktide.streams.contract.documents import PublishedPolicy

# By topic: the schema of a row, and its record.
_KINDS: dict[str, tuple[Any, Any]] = {
    "reservations": (contract.OrderView, history.OrderPublished),
    "adjustments": (contract.MovementView, history.MovementPublished),
    "stock": (contract.StockView, history.StockPublished),
    "channel-stock": (contract.ChannelUpdateView, history.ChannelUpdatePublished),
    "policies": (PublishedPolicy, history.PolicyPublished),
    "dead-letters": (contract.DeadLetterView, history.DeadLetterPublished),
    "alerts": (contract.AlertView, history.AlertPublished),
}


def recorders(clock: history.HistoryClock, add: Callable[[history.HistoryRecord], None]) -> dict[str, RowHandler]:
    """A handler for every topic that a checker uses."""

    def recorder(topic: str, kind: Any, record: Any) -> RowHandler:
        decoder = msgspec.json.Decoder(kind)

        def handle(row: TopicRecord) -> None:
            try:
                value = decoder.decode(row.value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                add(history.UnreadableRow(clock.now(), row.partition, row.offset, topic, str(error)))
            else:
                add(record(clock.now(), row.partition, row.offset, value))

        return handle

    return {topic: recorder(topic, kind, record) for topic, (kind, record) in _KINDS.items()}
