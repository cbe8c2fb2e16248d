"""Serves the application on a socket, with problem documents also for requests that the HTTP parser refuses.

In: an application and a bound socket. Out: served connections, until the stack is closed.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, InvalidURLError, LineTooLong

from stocktide.api import problems
from stocktide.api.requests import TARGET_BYTES_MAX

# Pending connections: the clients of a flash sale connect at the same time.
BACKLOG = 2_048
# A header with its name: the id of a feed of 256 partitions has 5 KiB.
HEADER_BYTES_MAX = 8 * 1024
# The options that aiohttp's own sites pass to a connection.
_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "max_line_size": TARGET_BYTES_MAX,
    "max_field_size": HEADER_BYTES_MAX,
}


class ProblemRequestHandler(web.RequestHandler):
    """aiohttp's connection, with problem documents for its own errors."""

    __slots__ = ()

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


async def listen(app: web.Application, listening: socket.socket, stack: AsyncExitStack, stop_seconds: float) -> None:
    """Serve until `stack` is closed; pending requests then get `stop_seconds`. Raises OSError."""
    runner = web.AppRunner(app, shutdown_timeout=stop_seconds)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    loop, manager = asyncio.get_running_loop(), runner.server
    assert manager is not None
    accepting = await loop.create_server(
        lambda: ProblemRequestHandler(manager, loop=loop, **_OPTIONS), sock=listening, backlog=BACKLOG
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
