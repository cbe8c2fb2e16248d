"""Lets a request in or refuses it: no key in the URL, the origin, the key, its rate, its role, its scope.

In: a request. Out: the handler's answer, with the caller stored in the request; or a problem document.
"""

from __future__ import annotations

import asyncio
import logging
import re
from urllib.parse import quote, unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from stocktide.api import problems
from stocktide.api.access.caller import CALLER, CHANNEL, OPEN, Caller
from stocktide.api.access.key_ring import KeyRing
from stocktide.api.access.keys import PREFIX
from stocktide.api.access.origins import Origins
from stocktide.api.access.rates import Rates
from stocktide.api.access.roles import PUBLIC, TICKETED, roles_of
from stocktide.api.access.scopes import OWNERS, OrderOwners, check_path, forbidden
from stocktide.api.access.tickets import Tickets
from stocktide.api.feeds.close_codes import CloseCode, FeedEnded
from stocktide.api.feeds.connections import CONNECTION
from stocktide.streams.contract.redaction import without_warehouses

log = logging.getLogger(__name__)

_KEY_PARAMETERS = frozenset(("key", "token", "access_token", "api_key"))
# A SKU may begin with `stk_`, but hardly goes on like this.
_LOOKS_LIKE_KEY = re.compile(r"stk_[A-Za-z0-9]{1,16}_[A-Za-z0-9]{4,}_[A-Za-z0-9]{4,}")
# What they answer has the numbers of every channel and warehouse.
_STOCK_OF_ALL = frozenset(("/v1/stock", "/v1/stock/{sku}", "/v1/stock/{sku}/history"))
_SCHEME = "bearer "
_ENDED = "the key is no longer valid"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="stocktide"'}


class AccessGuard:
    """The access of one API process. `ring` None: everyone may do everything (`--open`)."""

    def __init__(
        self,
        ring: KeyRing | None,
        tickets: Tickets | None,
        owners: OrderOwners,
        origins: Origins,
        rates: Rates,
    ) -> None:
        self._ring = ring
        self._tickets = tickets
        self._owners = owners
        self.origins = origins
        self._rates = rates

    def is_valid(self, caller: Caller) -> bool:
        """Whether the caller's key still has these rights: long-lived connections ask every few seconds."""
        return self._ring is None or self._ring.is_valid(caller)

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request whose target is readable."""
        if _has_key_in_url(request):
            detail = "A key belongs into the header Authorization, not into a URL, which is logged on its way."
            return problems.problem_response(400, "key_in_url", detail)
        refused = self.origins.preflight(request) or self.origins.refuse(request)
        if refused is not None:
            return refused
        resource = request.match_info.route.resource
        path = "" if resource is None else resource.canonical
        roles = roles_of(request.method, path)
        if roles is PUBLIC:
            response = await handler(request)
            # A webhook with a wrong signature.
            return (response.status == 401 and self._rates.refuse_stranger(request.remote)) or response
        caller = await self._authenticate(request, path)
        if isinstance(caller, web.StreamResponse):
            return caller
        if (refused := self._rates.refuse(caller.key_id)) is not None:
            return refused
        request[CALLER], request[OWNERS] = caller, self._owners
        if self._ring is None or not path or request.match_info.http_exception is not None:
            return await handler(request)
        if caller.role not in roles:
            return forbidden(_role_detail(caller, path))
        if (refused := await check_path(request, path, caller, self._owners)) is not None:
            return refused
        if path in TICKETED:
            return await self._stream(request, handler, caller, self._ring)
        response = await handler(request)
        if caller.role == CHANNEL and isinstance(response, web.Response) and isinstance(response.body, bytes):
            response.body = without_warehouses(response.body)
        return response

    async def _authenticate(self, request: web.Request, path: str) -> Caller | web.Response:
        if self._ring is None:
            return OPEN
        given = request.headers.get("Authorization", "")
        caller: Caller | None = None
        if given[: len(_SCHEME)].lower() == _SCHEME:
            caller = self._ring.authenticate(given[len(_SCHEME) :].strip())
        elif path in TICKETED and self._tickets is not None and (ticket := request.query.get("ticket")) is not None:
            caller = await self._tickets.accept(ticket)
        if caller is not None:
            return caller
        if (refused := self._rates.refuse_stranger(request.remote)) is not None:
            return refused
        what = "The key is not valid." if given else "This needs a key: `Authorization: Bearer stk_…`."
        return problems.problem_response(401, "unauthorized", what, _CHALLENGE)

    async def _stream(
        self, request: web.Request, handler: Handler, caller: Caller, ring: KeyRing
    ) -> web.StreamResponse:
        """A feed, which ends when the key does."""
        task = asyncio.current_task()
        assert task is not None
        ended = False

        def end() -> None:
            nonlocal ended
            log.info("a feed ends: the key %s is no longer valid", caller.key_id)
            if (connection := request.get(CONNECTION)) is not None:
                connection.end(FeedEnded(CloseCode.KEY_NOT_VALID, _ENDED))
            else:
                ended = True
                task.cancel()

        try:
            with ring.watched(caller, end):
                return await handler(request)
        except asyncio.CancelledError:
            if not ended:
                raise
            task.uncancel()
        return problems.problem_response(401, "unauthorized", _ENDED)


def _role_detail(caller: Caller, path: str) -> str:
    if caller.channel is not None and path in _STOCK_OF_ALL:
        return f"A channel's key reads its own view: /v1/channels/{quote(caller.channel)}/stock?sku=…"
    return f"A key of the role {caller.role} may not do this."


def _has_key_in_url(request: web.Request) -> bool:
    target = request.raw_path
    # A key may be escaped, once or twice.
    plain = unquote(unquote(target)) if "%" in target else target
    if PREFIX in plain and _LOOKS_LIKE_KEY.search(plain) is not None:
        return True
    return "?" in target and not _KEY_PARAMETERS.isdisjoint(name.lower() for name in request.query)
