"""The recording clients: a request is recorded before it is sent, its response when it arrives.

In: events of the contract, or bytes that are none. Out: the response as a `Response`, or the reason why there is none;
records of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import aiohttp
import msgspec
import orjson

from stocktide.loadtest.client.events import Event, utc_now
from stocktide.loadtest.client.http import JSON, NDJSON, ApiResponse, NoApiResponse, StocktideClient, request_of
from stocktide.loadtest.client.kafka import EventNotStored, EventProducer, record_of
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

    def response(self, response: Response) -> Response:
        """Record a response."""
        self.add(response)
        return response

    def no_response(self, number: int, reason: str) -> str:
        """Record that a request got no response."""
        self.add(NoResponse(self.clock.now(), number, reason))
        return reason


class RecordingHttpClient(StocktideClient):
    """Sends by HTTP, one attempt per call. `apis`: one address or several, used in turn."""

    def __init__(self, apis: str | Sequence[str], recorder: RequestRecorder) -> None:
        super().__init__(apis, CONNECTIONS_MAX, TIMEOUT)
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
        if transport == "ndjson":
            return self._record_lines([number], response)[0]
        return self._record(number, response)

    async def ask_bytes(self, body: bytes) -> Response | str:
        """The same for bytes that are no event, sent as an order."""
        number = self._recorder.request("http", "bytes", {})
        try:
            return self._record(number, await self.send("POST", "/v1/orders", body, JSON))
        except NoApiResponse as error:
            return self._recorder.no_response(number, error.reason)

    async def send_lines(self, lines: Sequence[tuple[int, bytes]]) -> Sequence[Response | str]:
        """Send (number, line) of recorded events as one request of NDJSON; the response to each line."""
        body = b"".join(line + b"\n" for _, line in lines)
        numbers = [number for number, _ in lines]
        try:
            return self._record_lines(numbers, await self.send("POST", "/v1/events", body, NDJSON))
        except NoApiResponse as error:
            return [self._recorder.no_response(number, error.reason) for number in numbers]

    def _record(self, number: int, response: ApiResponse) -> Response:
        now = self._recorder.clock.now()
        try:
            decoded = decode_response(now, number, response.status, response.body)
        except msgspec.DecodeError:
            decoded = Response(now, number, response.status, "unreadable")
        return self._recorder.response(decoded)

    def _record_lines(self, numbers: Sequence[int], response: ApiResponse) -> list[Response]:
        now, status = self._recorder.clock.now(), response.status
        rejected: dict[int, str] = {}
        try:
            if status == 202:
                rejected = {entry["line"]: entry["code"] for entry in orjson.loads(response.body)["rejected"]}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return [self._recorder.response(Response(now, number, status, "unreadable")) for number in numbers]
        return [
            self._recorder.response(Response(now, number, 422 if line in rejected else status, rejected.get(line)))
            for line, number in enumerate(numbers, start=1)
        ]


class RecordingProducer(EventProducer):
    """Sends by Kafka, whose acknowledgement is the response."""

    # The producer retries within it.
    acknowledged_seconds_max = 10.0

    def __init__(self, kafka: str, app_id: str, recorder: RequestRecorder, linger_ms: int = 5, **security: str) -> None:
        super().__init__(kafka, app_id, self.acknowledged_seconds_max, linger_ms, **security)
        self._recorder = recorder

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send once; the response, or the reason why there is none. There is no connection to abort."""
        # Over Kafka, `occurred_at` is required.
        event = {"occurred_at": utc_now(), **event}
        return await self._ask(kind, event, *record_of({"type": kind, **event}))

    async def ask_bytes(self, topic: str, key: bytes, value: bytes) -> Response | str:
        """The same for bytes that are no event; `topic` is without the app id."""
        return await self._ask("bytes", {}, topic, key, value)

    async def _ask(self, kind: str, event: Event, topic: str, key: bytes, value: bytes) -> Response | str:
        number = self._recorder.request("kafka", kind, event)
        try:
            sent = await self.send_record(topic, key, value)
        except EventNotStored as failure:
            return self._recorder.no_response(number, failure.reason)
        now = self._recorder.clock.now()
        where = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        return self._recorder.response(Response(now, number, 202, **where))
