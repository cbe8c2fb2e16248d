"""Parts of access for tests of other things: without keys."""

from __future__ import annotations

from stocktide.api.access.connections import ConnectionLimits, Connections
from stocktide.api.access.guard import AccessGuard
from stocktide.api.access.origins import Origins
from stocktide.api.access.rates import Rates
from stocktide.api.access.scopes import OrderOwners


async def _no_channel(order_id: str) -> None:
    return None


def open_guard() -> AccessGuard:
    """Lets everyone do everything."""
    return AccessGuard(None, None, OrderOwners(_no_channel), Origins(""), Rates(0))


def many_connections() -> Connections:
    return Connections(ConnectionLimits(1_000, 1_000))
