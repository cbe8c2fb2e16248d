"""A client of Stocktide: typed calls over HTTP with retries that count once, and feeds that go on where they were.

In: the address of an API and a key. Out: frozen messages. Begin with `Client` (asyncio) or `SyncClient`.
"""

from .client import Client, OrderOutcome
from .documents import (
    Alert,
    Approval,
    ChannelStock,
    ChannelUpdate,
    Line,
    MovedLine,
    Movement,
    Order,
    PolicyLevel,
    Reset,
    Resumed,
    Status,
    Stock,
    Synced,
    WarehouseStock,
)
from .errors import ApiError, NoApiResponse, StocktideError
from .feed import Feed
from .http import Retry
from .sync import SyncClient

__all__ = [
    "Alert",
    "ApiError",
    "Approval",
    "ChannelStock",
    "ChannelUpdate",
    "Client",
    "Feed",
    "Line",
    "MovedLine",
    "Movement",
    "NoApiResponse",
    "Order",
    "OrderOutcome",
    "PolicyLevel",
    "Reset",
    "Resumed",
    "Retry",
    "Status",
    "Stock",
    "StocktideError",
    "SyncClient",
    "Synced",
    "WarehouseStock",
]
