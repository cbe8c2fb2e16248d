"""The recording HTTP client: a request is recorded before it is sent, its response when it arrives.

In: events of the contract. Out: the response as a `Response`, or the reason why there is none; records of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import msgspec
import orjson

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.client.http import NDJSON, NoApiResponse, StocktideClient, request_of
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    InputTransport,
    NoResponse,
    Request,
    Response,
    decode_response,
)

# The API gives up after 5 s; the client waits a little longer, so that its response is received.
REQUEST_SECONDS_MAX = 8.0
TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX, sock_connect=3.0)
# Connections of one process: an API that answers in 20 ms needs 8 for 400 orders/s; the rest is for a slow API.
CONNECTIONS_MAX = 600
# Request numbers of one process: no run sends as many.
NUMBERS_PER_PROCESS = 1_000_000_000


class RequestRecorder:
    """Numbers the requests of one process and passes every record to `add`."""

    def __init__(self, clock: HistoryClock, process: int, add: Callable[[HistoryRecord], None]) -> None:
        self.clock = clock
        self.add = add
        self._number = process * NUMBERS_PER_PROCESS

    def request(self, transport: InputTransport, kind: str, event: Event) -> int:
        """Record an event that is about to be sent; its number."""
        self._number += 1
        self.add(Request(self.clock.now(), self._number, transport, kind, event))
        return self._number

    def no_response(self, number: int, reason: str) -> str:
        """Record that a request got no response."""
        self.add(NoResponse(self.clock.now(), number, reason))
        return reason


class RecordingHttpClient(StocktideClient):
    """Sends by HTTP, one attempt per call."""

    def __init__(self, api: str, recorder: RequestRecorder) -> None:
        super().__init__(api, CONNECTIONS_MAX, TIMEOUT)
        self._recorder = recorder

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send once; the response, or the reason why there is none."""
        method, path, body, content = request_of(kind, event)
        transport: InputTransport = "ndjson" if content == NDJSON else "http"
        number = self._recorder.request(transport, kind, event)
        try:
            async with asyncio.timeout(None if disconnect_after_ms is None else disconnect_after_ms / 1000):
                response = await self.send(method, path, body, content)
        except NoApiResponse as error:
            return self._recorder.no_response(number, error.reason if disconnect_after_ms is None else "hung up")
        except TimeoutError:
            return self._recorder.no_response(number, "hung up")
        decoded = self._decode(number, response.status, response.body, transport)
        self._recorder.add(decoded)
        return decoded

    def _decode(self, number: int, status: int, body: bytes, transport: InputTransport) -> Response:
        now = self._recorder.clock.now()
        try:
            if transport != "ndjson":
                return decode_response(now, number, status, body)
            rejected = orjson.loads(body)["rejected"] if status == 202 else []
            return Response(now, number, 422, rejected[0]["code"]) if rejected else Response(now, number, status)
        except (msgspec.DecodeError, orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return Response(now, number, status, "unreadable")
