"""The rows of public topics, as far as a load test reads them.

In: JSON of the contract. Out: frozen messages. A row has what the API answers (`stocktide.client.documents`), and the
`batch` that made it; that of an order also the `outcome` of its placing.
"""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from stocktide.client import documents
from stocktide.client.documents import ChannelUpdate as ChannelUpdateView
from stocktide.client.documents import Line as LineView
from stocktide.client.documents import MovedLine as MovedLineView
from stocktide.client.documents import WarehouseStock as WarehouseStockView

__all__ = [
    "AlertView",
    "ChannelUpdateView",
    "DeadLetterView",
    "LineView",
    "MovedLineView",
    "MovementView",
    "OrderView",
    "StockView",
    "WarehouseStockView",
]


class OrderView(documents.Order, frozen=True, omit_defaults=True):
    """A row of `reservations`."""

    batch: int = 0
    outcome: str = ""


class MovementView(documents.Movement, frozen=True, omit_defaults=True):
    """A row of `adjustments`."""

    batch: int = 0


class StockView(documents.Stock, frozen=True, omit_defaults=True):
    """A row of `stock`."""

    batch: int = 0


class AlertView(documents.Alert, frozen=True, omit_defaults=True):
    """A row of `alerts`."""

    batch: int = 0


class DeadLetterView(Struct, frozen=True, omit_defaults=True):
    """A row of `dead-letters`: the reason, the origin, and the text of the event where it was text."""

    reason: str
    detail: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    raw: str | None = None

    def event(self) -> dict[str, Any]:
        """The rejected event; empty where its bytes are not a JSON object."""
        try:
            event = orjson.loads(self.raw or "")
        except orjson.JSONDecodeError:
            return {}
        return event if isinstance(event, dict) else {}
