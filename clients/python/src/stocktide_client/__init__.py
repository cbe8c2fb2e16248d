"""A client of Stocktide: typed calls over HTTP with retries that count once, and feeds that go on where they were.

In: the address of an API and a key. Out: frozen messages. Begin with `Client` (asyncio) or `SyncClient`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ApiError, NoApiResponse, StocktideError

if TYPE_CHECKING:
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

# Where the other names are. They are imported when they are used: a third of a second for what only raises an error
# would be felt in every command.
_MODULES = {
    "Client": "client",
    "OrderOutcome": "client",
    "Feed": "feed",
    "Retry": "http",
    "SyncClient": "sync",
}


if not TYPE_CHECKING:
    # A checker that saw it would take any misspelt name.
    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_MODULES.get(name, 'documents')}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
