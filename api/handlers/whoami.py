"""Whose key a request has, for pages and tools that show what the key may do."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET

from stocktide.api import problems
from stocktide.api.access.caller import caller_of
from stocktide.streams.contract.documents import Holder


async def whoami(request: web.Request) -> web.Response:
    """`GET /v1/whoami`."""
    caller = caller_of(request)
    channel = UNSET if caller.channel is None else caller.channel
    warehouses = UNSET if caller.warehouses is None else list(caller.warehouses)
    answer = Holder(caller.role, caller.holder, sorted(caller.rights), channel, warehouses)
    return problems.json_response(answer, headers={"Cache-Control": "no-store"})
