"""The recording clients: a request is recorded before it is sent; a response, an update and a row when it arrives.

In: events of the contract, or bytes that are none; frames of a feed; rows of a `TopicReader`. Out: records, to `add`;
the response as a `Response`, or the reason why there is none. An update or a row that breaks the contract becomes an
`UnreadableRow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec
import orjson

from stocktide.client import NoApiResponse
from stocktide.client.feed import FeedFrame, FeedTransport
from stocktide.client.http import JSON, NDJSON, ApiResponse
from stocktide.loadtest.client import contract
from stocktide.loadtest.client.events import Event, utc_now
from stocktide.loadtest.client.feed import FeedSubscriber
from stocktide.loadtest.client.http import StocktideClient, request_of
from stocktide.loadtest.client.kafka import EventNotStored, EventProducer, record_of
from stocktide.loadtest.client.topics import RowHandler, TopicRecord
from stocktide.loadtest.oracle import history
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    InputTransport,
    NoResponse,
    Request,
    Response,
    decode_response,
)
from stocktide.streams.contract.documents import PublishedPolicy

# The API gives up after 5 s; the client waits a little longer, so that its response is received.
REQUEST_SECONDS_MAX = 8.0
TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX, sock_connect=3.0)
# Connections of one process: an API that answers in 20 ms needs 8 for 400 orders/s; the rest is for a slow API.
CONNECTIONS_MAX = 600
# Request numbers of one process: no run sends as many.
NUMBERS_PER_PROCESS = 1_000_000_000
# With several APIs, a dead one is left soon.
FEED_CONNECT_SECONDS_MAX = 2.0

_UPDATE = msgspec.json.Decoder(contract.ChannelUpdateView)
# By topic: the schema of a row, and its record.
_ROWS: dict[str, tuple[Any, Any]] = {
    "reservations": (contract.OrderView, history.OrderPublished),
    "adjustments": (contract.MovementView, history.MovementPublished),
    "stock": (contract.StockView, history.StockPublished),
    "channel-stock": (contract.ChannelUpdateView, history.ChannelUpdatePublished),
    "policies": (PublishedPolicy, history.PolicyPublished),
    "dead-letters": (contract.DeadLetterView, history.DeadLetterPublished),
    "alerts": (contract.AlertView, history.AlertPublished),
}


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


class RecordingSubscriber(FeedSubscriber):
    """Follows one channel until it is stopped. `name` is unique in the run."""

    def __init__(
        self,
        name: str,
        channel: str,
        apis: Sequence[str],
        clock: HistoryClock,
        add: Callable[[HistoryRecord], None],
        connect_seconds_max: float = FEED_CONNECT_SECONDS_MAX,
        transport: FeedTransport = "sse",
    ) -> None:
        super().__init__(apis, channel, connect_seconds_max, transport)
        self.name = name
        self._clock = clock
        self._add = add
        self._requested_at = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the channel."""
        self._task = asyncio.create_task(self.run(), name=f"subscriber {self.name}")

    async def stop(self) -> None:
        """Unsubscribe for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._add(history.Unsubscribed(self._clock.now(), self.name, "the run is over", left=True))

    def on_request(self) -> None:
        """Note the time of the request."""
        self._requested_at = self._clock.now()

    def on_connected(self) -> None:
        """Record the subscription."""
        self._add(
            history.Subscribed(self._clock.now(), self.name, self.channel, self.last_event_id, self._requested_at)
        )

    def on_disconnected(self, reason: str) -> None:
        """Record its end."""
        self._add(history.Unsubscribed(self._clock.now(), self.name, reason))

    def on_frames(self, frames: Sequence[FeedFrame]) -> None:
        """Record updates and `synced`."""
        for frame in frames:
            if frame.event == b"stock":
                self.record_update(frame.data)
            elif frame.event == b"synced":
                self.record_synced()

    def record_update(self, data: bytes) -> None:
        """Record an update from its JSON."""
        now = self._clock.now()
        try:
            self._add(history.UpdateReceived(now, self.name, _UPDATE.decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._add(history.UnreadableRow(now, -1, -1, f"feed of {self.channel}", str(error)))

    def record_synced(self) -> None:
        """Record that the snapshot is complete."""
        self._add(history.Synced(self._clock.now(), self.name))


def recorders(clock: HistoryClock, add: Callable[[HistoryRecord], None]) -> dict[str, RowHandler]:
    """A handler for every topic that a checker uses."""

    def recorder(topic: str, kind: Any, record: Any) -> RowHandler:
        decoder = msgspec.json.Decoder(kind)

        def handle(row: TopicRecord) -> None:
            try:
                value = decoder.decode(row.value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                add(history.UnreadableRow(clock.now(), row.partition, row.offset, topic, str(error)))
            else:
                add(record(clock.now(), row.partition, row.offset, value))

        return handle

    return {topic: recorder(topic, kind, record) for topic, (kind, record) in _ROWS.items()}
