"""Serves the application on a socket, with problem documents also for requests that the HTTP parser refuses.

In: an application and a bound socket. Out: served connections, until the stack is closed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, InvalidURLError, LineTooLong
from aiohttp.web_server import Server

from stocktide.api import problems
from stocktide.api.access.connections import HEADER_SECONDS_MAX, KEEP_ALIVE_SECONDS, Connections
from stocktide.api.requests import TARGET_BYTES_MAX

# Pending connections: the clients of a flash sale connect at the same time.
BACKLOG = 2_048
# A header with its name: the id of a feed of 256 partitions has 5 KiB.
HEADER_BYTES_MAX = 8 * 1024
# A browser sends about 20, a chain of proxies some more.
HEADERS_MAX = 100
# The options that aiohttp's own sites pass to a connection.
_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "max_line_size": TARGET_BYTES_MAX,
    "max_field_size": HEADER_BYTES_MAX,
    "max_headers": HEADERS_MAX,
    "keepalive_timeout": KEEP_ALIVE_SECONDS,
}


def _raw_problem(status: int, phrase: str, code: str, detail: str) -> bytes:
    body = problems.problem_response(status, code, detail).body
    assert isinstance(body, bytes)
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {problems.PROBLEM_TYPE}\r\nRetry-After: 1\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


# Written without a request: there is none.
_REFUSALS = {
    408: _raw_problem(408, "Request Timeout", "request_timeout", "The header of a request has to arrive in time."),
    503: _raw_problem(503, "Service Unavailable", "too_many_connections", "There are too many connections."),
}


class ProblemRequestHandler(web.RequestHandler):
    """aiohttp's connection, counted, and with problem documents for its own errors."""

    __slots__ = ("_connections", "_header_began", "address")

    def __init__(self, manager: Server, connections: Connections, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, **_OPTIONS)
        self._connections = connections
        self._header_began: float | None = None
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._header_began = self._loop.time()
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is closed."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come, of a header or of a body."""
        if self._header_began is None and self.is_idle:
            self._header_began = self._loop.time()
        super().data_received(data)
        if self._messages:
            self._header_began = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        return self._current_request is None and not self._messages and not self._request_in_progress

    def header_began(self) -> float | None:
        """When the client connected, or began a header that is not complete."""
        return self._header_began if self.is_idle else None

    def refuse(self, status: int) -> None:
        """Say why, and close: 408 for a slow header, 503 where there are too many connections."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(_REFUSALS[status])
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to an invalid request, and to a failure outside the handlers."""
        super().handle_error(request, status, exc, message)  # logs it, and raises if a response has started
        response = _refused(status, exc, message)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; convert an exception that aiohttp raised before it called a handler."""
        if isinstance(resp, web.HTTPException):
            resp = problems.from_http_exception(resp)
        return await super().finish_response(request, resp, start_time)


async def listen(
    app: web.Application,
    listening: socket.socket,
    stack: AsyncExitStack,
    stop_seconds: float,
    connections: Connections,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until `stack` is closed; pending requests then get `stop_seconds`. Raises OSError."""
    runner = web.AppRunner(app, shutdown_timeout=stop_seconds)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    loop, manager = asyncio.get_running_loop(), runner.server
    assert manager is not None
    accepting = await loop.create_server(
        lambda: ProblemRequestHandler(manager, connections, loop=loop),
        sock=listening,
        backlog=BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=HEADER_SECONDS_MAX if tls is not None else None,
    )
    stack.callback(accepting.close)


def _refused(status: int, exc: BaseException | None, message: str | None) -> web.Response:
    if status >= 500:
        return problems.problem_response(500, "internal_error", "This is a fault of ours; the log has the details.")
    if isinstance(exc, LineTooLong):
        _, bytes_max, _ = exc.args
        if bytes_max == TARGET_BYTES_MAX:
            return problems.problem_response(414, "uri_too_long", f"Path and query have at most {bytes_max} bytes.")
        return problems.problem_response(431, "headers_too_large", f"A header has at most {bytes_max} bytes.")
    if isinstance(exc, ContentEncodingError):
        return problems.unsupported_encoding()
    if isinstance(exc, InvalidURLError):
        detail = (
            "The target of the request is no path: what is not printable ASCII is sent as the escapes of its UTF-8."
        )
        return problems.problem_response(400, "malformed_path", detail)
    what = (message or "it cannot be read").strip().split("\n")[0].rstrip(":.")
    return problems.problem_response(400, "malformed_request", f"This is no HTTP request: {what}.")
