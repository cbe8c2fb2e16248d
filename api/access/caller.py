"""Who makes a request.

In: a request that was let in. Out: its `Caller`, also for handlers that are reached without the middleware.
"""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

CHANNEL, WAREHOUSE, OPERATOR, APPROVER, VIEWER, METRICS = ROLES = (
    "channel",
    "warehouse",
    "operator",
    "approver",
    "viewer",
    "metrics",
)
PRIORITY_VIP, FORCE, PURPOSE, SOLD = RIGHTS = ("priority_vip", "force", "purpose", "sold")


class Caller(Struct, frozen=True):
    """The holder of a key. `channel` or `warehouses` limit it; None: it is not limited so."""

    key_id: str
    role: str
    holder: str
    channel: str | None = None
    warehouses: tuple[str, ...] | None = None
    rights: frozenset[str] = frozenset()


# Where the middleware stores the caller of a request.
CALLER = web.RequestKey("caller", Caller)
# Without keys (`--open`) everyone may do everything, and the header X-Actor names the actor.
OPEN = Caller("open", OPERATOR, "operator", rights=frozenset(RIGHTS))


def caller_of(request: web.Request) -> Caller:
    """The caller; `OPEN` where no middleware has looked, as in a test of a handler."""
    caller: Caller = request.get(CALLER, OPEN)
    return caller
