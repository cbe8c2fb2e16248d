"""Spans of the API: one for each request, which the batch of its command links.

In: requests, whose headers may carry a context. Out: the same answers, and spans.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry.trace import StatusCode

from stocktide.api.batching import BatchSubmitter, CommandBatcher, SettledResult, _Waiting
from stocktide.streams.spans import Tracing, current_context, key_of, no_context
from stocktide.tables.ledger.commands import Command

# Asked every few seconds by machines, or open for hours.
UNTRACED = ("/healthz", "/readyz", "/metrics", "/feed", "/socket")


def trace_requests(tracing: Tracing) -> Middleware:
    """The middleware, outside of all others."""

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None or resource.canonical.endswith(UNTRACED):
            return await handler(request)
        attributes = {"http.request.method": request.method, "http.route": resource.canonical}
        with tracing.request(f"{request.method} {resource.canonical}", request.headers, attributes) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 500:
                span.set_status(StatusCode.ERROR)
            return response

    return traced


class TracedBatcher(CommandBatcher):
    """Collects commands with the spans of their requests."""

    def __init__(self, submitter: BatchSubmitter, tracing: Tracing) -> None:
        super().__init__(submitter)
        self._tracing = tracing

    async def submit(self, command: Command, deadline: float) -> SettledResult:
        """See CommandBatcher."""
        with self._tracing.causing({key_of(command): current_context()}):
            return await super().submit(command, deadline)

    async def _decide(self, batch: Sequence[_Waiting]) -> None:
        with no_context():
            await super()._decide(batch)
