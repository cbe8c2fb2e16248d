"""Which pages of other origins may call the API (CORS).

In: a list of origins. Out: the answer to a preflight, the headers of an answer, the problem of a foreign origin.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from stocktide.api import problems

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# How long a browser remembers the answer to a preflight.
PREFLIGHT_SECONDS = 600
_ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, Last-Event-ID, X-Actor"
_SHOWN_HEADERS = "ETag, Location, Retry-After, X-Next-Cursor"


class Origins:
    """The origins that are allowed besides the API's own. `*`: every one, which is safe because no cookie is used."""

    def __init__(self, allowed: str) -> None:
        self._allowed = frozenset(each.strip().rstrip("/") for each in allowed.split(",") if each.strip())

    def is_allowed(self, request: web.BaseRequest) -> bool:
        """Whether the request comes from no page, from the API's own, or from a listed one. WebSockets need this."""
        origin = request.headers.get("Origin")
        return origin is None or self._is_listed(origin) or _is_own(origin, request.host)

    def refuse(self, request: web.Request) -> web.Response | None:
        """The problem of a change, or of a WebSocket, by a page of another origin: no browser keeps the messages of a
        socket from it."""
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if (request.method in SAFE_METHODS and not is_socket) or self.is_allowed(request):
            return None
        detail = "A page of another origin may change or follow nothing here (STOCKTIDE_ORIGINS lists those that may)."
        return problems.problem_response(403, "foreign_origin", detail)

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a preflight; None for any other request."""
        method = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or method is None or "Origin" not in request.headers:
            return None
        if not self.is_allowed(request):
            return problems.problem_response(403, "foreign_origin", "This origin is not listed in STOCKTIDE_ORIGINS.")
        headers = {
            "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let a listed page read the answer."""
        if not self._allowed:
            return
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and self._is_listed(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _SHOWN_HEADERS

    def _is_listed(self, origin: str) -> bool:
        return origin in self._allowed or "*" in self._allowed


def _is_own(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # not a URL, such as half an IPv6 address
        return False
