"""Whose key a request has, for pages and tools that show what the key may do."""

from __future__ import annotations

from aiohttp import web

from stocktide.api import problems
from stocktide.api.access.caller import caller_of
from stocktide.streams.contract.documents import Holder


async def whoami(request: web.Request) -> web.Response:
    """`GET /v1/whoami`."""
    caller = caller_of(request)
    warehouses = None if caller.warehouses is None else list(caller.warehouses)
    answer = Holder(caller.role, caller.holder, caller.channel, warehouses, sorted(caller.rights))
    return problems.json_response(answer, headers={"Cache-Control": "no-store"})
