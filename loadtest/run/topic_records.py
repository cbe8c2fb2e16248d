"""Rows of the public topics as records of a run's history.

In: rows as `loadtest.client.topics.Feeds` reads them. Out: records, to whoever keeps the history. A row that is not
what the contract says is a record too: nobody may pass over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stocktide.loadtest.client.topics import Row, Take
from stocktide.loadtest.oracle.contract import Alert, DeadLetter, Movement, Order, Policy, Stock, Update
from stocktide.loadtest.oracle.history import (
    AlertRow,
    ChannelRow,
    Clock,
    DeadLetterRow,
    MovementRow,
    OrderRow,
    PolicyRow,
    Record,
    StockRow,
    Unreadable,
)

# What a row of each topic is, and its record.
_KINDS: dict[str, tuple[Any, Any]] = {
    "reservations": (Order, OrderRow),
    "adjustments": (Movement, MovementRow),
    "stock": (Stock, StockRow),
    "channel-stock": (Update, ChannelRow),
    "policies": (Policy, PolicyRow),
    "dead-letters": (DeadLetter, DeadLetterRow),
    "alerts": (Alert, AlertRow),
}


def recorders(clock: Clock, add: Callable[[Record], None]) -> dict[str, Take]:
    """A taker for every topic that a checker looks at."""
    return {topic: _recorder(topic, kind, record, clock, add) for topic, (kind, record) in _KINDS.items()}


def _recorder(topic: str, kind: Any, record: Any, clock: Clock, add: Callable[[Record], None]) -> Take:
    decoder = msgspec.json.Decoder(kind)

    def take(row: Row) -> None:
        try:
            value = decoder.decode(row.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            add(Unreadable(clock.now(), row.partition, row.offset, topic, str(error)))
        else:
            add(record(clock.now(), row.partition, row.offset, value))

    return take
