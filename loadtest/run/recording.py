"""Asks the system, and writes down what was asked before it is asked, and what was told.

In: events of the contract. Out: the answer as a `Response`, or None where none came; the record of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.client.http import JSON, NDJSON
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    InputTransport,
    NoResponse,
    Request,
    Response,
    decode_response,
)

# The API gives up after 5 s; a client's patience is a little longer, so that its word is heard.
REQUEST_SECONDS_MAX = 8.0
CONNECT_SECONDS_MAX = 3.0
# Connections of one tester: an API that answers in 20 ms needs 8 for 400 orders/s; the rest is for a bad hour.
CONNECTIONS_MAX = 600
# How long Kafka may take to acknowledge.
ACKNOWLEDGED_SECONDS_MAX = 10.0
# Numbers of one process's requests: no run asks so often.
NUMBERS_PER_PROCESS = 1_000_000_000

_HEADERS = {kind: {"Content-Type": kind} for kind in (JSON, NDJSON)}
_VERBS = {"order.paid": "pay", "order.cancelled": "cancel", "order.extended": "extend"}


class RequestRecorder:
    """Numbers what is asked by one process, and gives every record on."""

    def __init__(self, clock: HistoryClock, process: int, add: Callable[[HistoryRecord], None]) -> None:
        self.clock = clock
        self.add = add
        self._number = process * NUMBERS_PER_PROCESS

    def asked(self, door: InputTransport, kind: str, event: Event) -> int:
        """An event is about to be sent; its number."""
        self._number += 1
        self.add(Request(self.clock.now(), self._number, door, kind, event))
        return self._number

    def told(self, told: Response) -> Response:
        """It was answered."""
        self.add(told)
        return told

    def silent(self, number: int, why: str) -> None:
        """It was not."""
        self.add(NoResponse(self.clock.now(), number, why))


class RecordingHttpClient:
    """Asks by HTTP, each thing once: who wants to know more asks again."""

    def __init__(self, api: str, recorder: RequestRecorder) -> None:
        self._api = api.rstrip("/")
        self._recorder = recorder
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send it once; the answer, or why there is none."""
        method, path, body, content = request_of(kind, event)
        door: InputTransport = "ndjson" if content == NDJSON else "http"
        number = self._recorder.asked(door, kind, event)
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(None if disconnect_after_ms is None else disconnect_after_ms / 1000),
                self._session.request(method, self._api + path, data=body, headers=_HEADERS[content]) as response,
            ):
                status, said = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = "hung up" if disconnect_after_ms is not None else _named(error)
            self._recorder.silent(number, why)
            return why
        return self._recorder.told(self._told(number, status, said, door))

    def _told(self, number: int, status: int, said: bytes, door: InputTransport) -> Response:
        now = self._recorder.clock.now()
        try:
            if door != "ndjson":
                return decode_response(now, number, status, said)
            rejected = orjson.loads(said)["rejected"] if status == 202 else []
            return Response(now, number, 422, rejected[0]["code"]) if rejected else Response(now, number, status)
        except (msgspec.DecodeError, orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return Response(now, number, status, "unreadable")


class RecordingKafkaClient:
    """Sends to the topic `orders`; Kafka's acknowledgement is the answer."""

    def __init__(self, kafka: str, app_id: str, recorder: RequestRecorder, **security: Any) -> None:
        self._topic = f"{app_id}-orders"
        self._recorder = recorder
        self._producer = AIOKafkaProducer(
            bootstrap_servers=kafka,
            acks="all",
            linger_ms=2,
            request_timeout_ms=int(ACKNOWLEDGED_SECONDS_MAX * 1000),
            **security,
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send it once; where Kafka has it, or why it has not. Nobody hangs up on Kafka."""
        number = self._recorder.asked("kafka", kind, event)
        value = orjson.dumps({"type": kind, **event})
        try:
            async with asyncio.timeout(2 * ACKNOWLEDGED_SECONDS_MAX):
                sent = await self._producer.send_and_wait(self._topic, value, key=event["order_id"].encode())
        except (KafkaError, TimeoutError, OSError) as error:
            self._recorder.silent(number, _named(error))
            return _named(error)
        where = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        return self._recorder.told(Response(self._recorder.clock.now(), number, 202, **where))


def request_of(kind: str, event: Event) -> tuple[str, str, bytes, str]:
    """Method, path, body and content type of an event by HTTP."""
    if kind == "order.placed":
        return "POST", "/v1/orders", orjson.dumps(event), JSON
    if (verb := _VERBS.get(kind)) is not None:
        body = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
        return "POST", f"/v1/orders/{quote(event['order_id'], safe='')}/{verb}", orjson.dumps(body), JSON
    if kind == "policy.put":
        path = f"/v1/policies/{quote(event['channel'], safe='')}/{quote(event['sku'], safe='')}"
        return "PUT", path, orjson.dumps(event["policy"]), JSON
    line = orjson.dumps({"type": kind, **event})
    if kind.startswith("stock."):
        return "POST", "/v1/movements", line, JSON
    return "POST", "/v1/events", line + b"\n", NDJSON


def _named(error: BaseException) -> str:
    """An error as one of few reasons: its kind, not its text, which names ports and times."""
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__
